"""The rules of the house, each a function that names its offenders, and the figures of the house as a table.

`python tests/house.py` prints the figures; with notebooks (`python tests/house.py nbs/50_models/01_attention.ipynb`) what each of them breaks.
`tests/test_house.py` holds every rule, each with its own counter-example.
"""
import ast, json, re, sys
from functools import cached_property
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
WIDTH, SHORT, TALL, CELLS, TOGETHER, RUN = 120, 80, 40, 80, 12, 2
DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
CHECKS = re.compile(r'^\s*(assert\b|with (ExceptionExpected|expect_fail)|test_\w+\(|all_equal\()', re.M)
HOUSE_WORDS = {'found', 'said', 'told', 'own', 'there'}

VERBS = set("""
add adjust advance agree align answer append apply arrange ask assign attach attempt attend attribute average begin bind blend blur break bring build call capture carry change check choose clear close collect
color combine compact compare complete compress compute connect convert convolve copy count cover cut deal decide decode delete demux derive describe detach detect disturb draft draw drop edit embed empty encode end
estimate evaluate examine exchange expand explain export expose extract fetch fill find fingerprint finish fit flatten fold follow forget format gather generate get give grid group guard guess halve hash hear hold
identify import infer init inspect interpolate intervene invert isolate join judge keep knock label lay learn leave lengthen light lighten link list listen load locate lock look lose make map mark match measure meet mend
merge mix move name normalise note nudge number observe offer open order outline overlap pack paint parse pass permit pick place plan play plot pool predict prepare prettify print probe project propose prune pull put
quantise randomise rank read record redraw reduce refuse register reject remove render repeat replace report reproduce resample reset resize resolve restore restrict retry return review rise round run sample save
say scale score seal search seed select send set settle shade shape share shift shorten show shuffle sign silence simplify slice smooth sort space speak spell split spread stamp standardise start step stop stretch
strip sum summarise swap sweep tabulate take tell test thin tighten time tint to tokenize trace train transcribe transform translate trim try turn type undo unpack unwrap update upsample use validate wait walk
warn watch weaken weigh widen work wrap wrinkle write zip""".split())
TERMS = set("""accuracy ccc fold focal grad_cam haar interval_auc log_loss macro_f1 main patch per_class_f1 precision_at receptive_field rng_for rollout row_log_loss
shapley tensor_product uar weighted_f1 yunet""".split()) # the field's own words, and two that every program has
KEPT = set("""atomic_path half_folder data_dir default_cache file_hash real_data stable_hash available quiet without loudness_db tracks_from_table babble click cough hum music white blob bump part ramp spot stroke""".split())
# places, hashes, sounds and shapes that read as what they give
FORMS = re.compile(r'^(is|has|takes|begins)_|_(loss|losses|version|panel|or_reason|entropy|from_sums|ccc)$|^(random|as|last|mean|usual|masked|whole|fresh|from|warm|folds|labelled|mult|multi|prompts|task|with)_')


class Cell:
    "A cell of a notebook: what it exports, defines, imports and shows."
    def __init__(self, raw:dict):
        self.raw, self.source, self.kind = raw, ''.join(raw['source']), raw['cell_type']

    @property
    def is_exported(self) -> bool: return self.kind == 'code' and bool(re.match(r'#\s*\|\s*exporti?\b', self.source))

    @cached_property
    def tree(self) -> ast.Module:
        if self.kind != 'code': return ast.parse('')
        plain = [re.sub(r'^(\s*)[%!].*', r'\1pass', line) for line in self.source.splitlines()]
        return ast.parse('\n'.join(plain))

    @property
    def definitions(self) -> list: return [n for n in self.tree.body if isinstance(n, DEFINES)]

    @property
    def lines(self) -> list: return self.source.splitlines()

    @property
    def is_example(self) -> bool:
        "Code a reader can run that checks what stands above it."
        return self.kind == 'code' and not self.is_exported and bool(CHECKS.search(self.source))

    @property
    def pictures(self) -> list: # MIME types a printed page can show
        data = [o.get('data', {}) for o in self.raw.get('outputs', [])]
        shown = [k for d in data for k in d if k in ('image/png', 'image/svg+xml', 'image/jpeg')]
        shown += ['table' for d in data if '<table' in ''.join(d.get('text/html', ''))]
        if self.kind == 'markdown' and re.search(r'!\[.*?\]\((attachment:)?[^)]*\.(png|svg)\)', self.source): shown.append('image')
        return shown


class Notebook:
    "A notebook, with what the rules ask of it."
    def __init__(self, path):
        self.path = Path(path)
        self.cells = [Cell(c) for c in json.loads(self.path.read_text())['cells']]

    @property
    def exported(self) -> list: return [c for c in self.cells if c.is_exported]

    @property
    def is_library(self) -> bool: return bool(re.match(r'\d\d_', self.path.name)) and 'walkthroughs' not in self.path.parts


def library(root=ROOT) -> list:
    "The notebooks that export a module, in their order."
    return [n for n in map(Notebook, sorted((Path(root)/'nbs').rglob('*.ipynb'))) if n.is_library]


def wide_lines(notebook) -> list:
    "Exported lines over 120 columns."
    return [f'{len(line)} columns: {line[:60]}' for c in notebook.exported for line in c.lines if len(line) > WIDTH]


def bodies(tree):
    for node in ast.walk(tree):
        for name in ('body', 'orelse', 'finalbody'):
            if isinstance(block := getattr(node, name, None), list): yield node, block


def crowded_lines(notebook) -> list:
    "Two statements on a line, or a compound one whose line is longer than 80."
    bad = []
    for c in notebook.exported:
        rows = []
        for node, block in bodies(c.tree):
            rows += [b.lineno for a, b in zip(block, block[1:]) if a.end_lineno == b.lineno]
            if block and isinstance(node, ast.stmt):
                line = c.lines[block[0].lineno - 1]
                header = re.match(r'\s*(if|elif|else|for|while|with|try|except|finally|def|class|async)\b', line)
                is_inline = header and block[0].col_offset > header.start(1) and not is_header_only(line, block[0])
                if is_inline and len(line) > SHORT: rows.append(block[0].lineno)
        bad += [c.lines[r - 1].strip()[:70] for r in rows]
    return bad


def is_header_only(line:str, first:ast.stmt) -> bool:
    "The body begins with a compound statement of its own, at its own line."
    return len(line) - len(line.lstrip()) == first.col_offset


def tall_cells(notebook) -> list:
    "Exported cells of more than 40 lines."
    return [f'{len(c.lines)} lines: {c.lines[1][:60]}' for c in notebook.exported if len(c.lines) > TALL]


def is_public(node) -> bool: return not node.name.startswith('_')


def crowded_cells(notebook) -> list:
    "Exported cells with several public definitions in more than twelve lines together."
    many = [c for c in notebook.exported if sum(map(is_public, c.definitions)) > 1]
    height = lambda c: sum(bool(line.strip()) for line in c.lines[1:])
    return [', '.join(d.name for d in c.definitions) for c in many if height(c) > TOGETHER]


def long_waits(notebook, most=RUN) -> list:
    "Runs of more than two defining cells without an example that checks something."
    bad, run = [], []
    for c in notebook.cells:
        if c.is_exported and c.definitions: run.append(c.definitions[0].name)
        elif c.is_example:
            if len(run) > most: bad.append(', '.join(run))
            run = []
    return bad + ([', '.join(run)] if len(run) > most else [])


def too_many_cells(notebook) -> list:
    return [f'{len(notebook.cells)} cells'] if len(notebook.cells) > CELLS else []


def no_picture(notebook) -> list:
    "A notebook above core without a figure or a table that a printed page shows."
    return [] if any(c.pictures for c in notebook.cells) else ['shows nothing']


def mixed_imports(notebook) -> list:
    "Cells that import and do something else, too."
    bad = []
    for c in notebook.cells:
        imports = [isinstance(n, (ast.Import, ast.ImportFrom)) for n in c.tree.body]
        words = [isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant) for n in c.tree.body]
        if 'nbdev_export()' in c.source: continue
        nested = not c.is_exported and any(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.walk(c.tree)) # nbdev's documentation runs such cells
        if (any(imports) or nested) and not all(a or b for a, b in zip(imports, words)): bad.append(c.lines[0][:60] + ' ' + c.lines[-1][:40])
    return bad


def hung_methods(notebook) -> list:
    "Attributes set on a class from outside it."
    targets = lambda n: n.targets if isinstance(n, ast.Assign) else []
    flat = lambda t: t.elts if isinstance(t, ast.Tuple) else [t]
    named = [t for c in notebook.exported for n in c.tree.body for a in targets(n) for t in flat(a) if isinstance(t, ast.Attribute)]
    return [f'{t.value.id}.{t.attr}' for t in named if isinstance(t.value, ast.Name) and t.value.id[0].isupper()]


def house_words(notebook) -> list:
    "Names that say nothing: of definitions, parameters and fields, or of variables that live longer than five lines."
    bad = []
    for c in notebook.exported:
        for node in ast.walk(c.tree):
            if isinstance(node, DEFINES) and node.name in HOUSE_WORDS: bad.append(f'{node.name} (defined)')
            if isinstance(node, ast.arg) and node.arg in HOUSE_WORDS: bad.append(f'{node.arg} (parameter)')
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in HOUSE_WORDS:
                bad.append(f'{node.target.id} (field)')
            if isinstance(node, ast.FunctionDef):
                uses = [n for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in HOUSE_WORDS]
                for word in sorted({n.id for n in uses}):
                    rows = [n.lineno for n in uses if n.id == word]
                    if max(rows) - min(rows) >= 5: bad.append(f'{word} in {node.name}, {max(rows) - min(rows) + 1} lines')
    return bad


def odd_names(notebook) -> list:
    "Public functions whose name does not begin with a verb, and is no term of the field."
    is_function = lambda d: isinstance(d, ast.FunctionDef) and is_public(d) and not any('patch' in ast.unparse(x) for x in d.decorator_list)
    functions = [d.name for c in notebook.exported for d in c.definitions if is_function(d)]
    is_fine = lambda name: name.split('_')[0] in VERBS or name in TERMS | KEPT or FORMS.search(name)
    return [name for name in functions if not is_fine(name)]


RULES = dict(odd_names=odd_names, wide_lines=wide_lines, crowded_lines=crowded_lines, tall_cells=tall_cells, crowded_cells=crowded_cells, long_waits=long_waits,
             too_many_cells=too_many_cells, no_picture=no_picture, mixed_imports=mixed_imports, hung_methods=hung_methods, house_words=house_words)


def has_example(notebook) -> list: # for each defining cell: does code that is not exported follow before the next one
    marks = []
    for c in notebook.cells:
        if c.is_exported and c.definitions: marks.append(False)
        elif marks and c.kind == 'code' and not c.is_exported and not c.source.startswith('#| hide'): marks[-1] = True
    return marks


def node_density(notebook) -> list: # of each function: expression nodes on a line of its body
    found = []
    for c in notebook.exported:
        for f in ast.walk(c.tree):
            if not isinstance(f, ast.FunctionDef): continue
            is_doc = isinstance(f.body[0], ast.Expr) and isinstance(f.body[0].value, ast.Constant)
            body = f.body[is_doc:]
            if body: found.append(sum(isinstance(n, ast.expr) for b in body for n in ast.walk(b))/(f.end_lineno - body[0].lineno + 1))
    return found


def figures(notebooks) -> dict:
    "The house in figures, as its plan asks for them."
    lengths = sorted(len(c.source) for n in notebooks for c in n.exported)
    defining = [c for n in notebooks for c in n.exported if c.definitions]
    examples = [m for n in notebooks for m in has_example(n)]
    runs = [w.count(',') + 1 for n in notebooks for w in long_waits(n, 0)]
    lines = [line for n in notebooks for c in n.exported for line in c.lines]
    return {'exported cell, characters, median': median(lengths), '90th percentile': lengths[int(.9*(len(lengths) - 1))],
            'cells with two or more definitions, %': round(100*sum(len(c.definitions) > 1 for c in defining)/len(defining), 1),
            'defining cells with an example, %': round(100*sum(examples)/len(examples), 1), 'longest run without one': max(runs),
            'expression nodes a line, median': round(median(d for n in notebooks for d in node_density(n)), 1),
            'lines over 120': sum(len(line) > WIDTH for line in lines), 'longest line': max(map(len, lines)),
            'notebooks above core without a picture': sum(bool(no_picture(n)) for n in notebooks if n.path.stem != '00_core'), 'notebooks': len(notebooks),
            'cells in the longest notebook': max(len(n.cells) for n in notebooks), 'lines in the tallest cell': max(len(c.lines) for n in notebooks for c in n.exported)}


if __name__ == '__main__':
    if not all(Path(a).is_file() for a in sys.argv[1:]): raise SystemExit('Name notebooks that are there, or none for the figures of all: python tests/house.py [NOTEBOOK ...]')
    asked = [Notebook(a) for a in sys.argv[1:]]
    for n in asked:
        print(n.path)
        for name, rule in RULES.items():
            for offence in rule(n): print(f'  {name}: {offence}')
    counted = [n for n in asked or library() if any(c.definitions for c in n.exported)]
    if counted:
        for name, value in figures(counted).items(): print(f'{name:<40}{value}')
