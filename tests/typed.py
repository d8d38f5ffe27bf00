"""The command line as somebody types it, in this process."""
from mmemo.commands.cli import main


def type_words(capsys, *argv):
    "Exit status, output and error output."
    capsys.readouterr()
    try: status = main([str(a) for a in argv])
    except SystemExit as e: status = e.code
    return status, *capsys.readouterr()
