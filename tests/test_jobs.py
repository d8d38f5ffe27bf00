"""Background jobs of the panels: a script that ends while one is at work ends well."""
import subprocess, sys

CODE = """
import time, torch
from mmemo.panels.jobs import JobRunner
heads = torch.rand(2, 4, 300, 16)
def work(progress):
    while True:
        for _ in range(50): torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)
        progress(0., 'on')
runner = JobRunner()
runner.start(work)
time.sleep(.5)
assert runner.busy
"""


def test_a_script_that_ends_while_a_job_works_ends_well():
    ended = subprocess.run([sys.executable, '-c', CODE], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, '')
