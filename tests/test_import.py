"""sumix imported again, or in part, in a process that has it already: torch takes each registration once."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import sumix

USE = """
import gc, importlib, io, pickle, sys
import torch
from torch.utils import _pytree
import sumix

def use():
    x, y, mix = torch.randn(4, 3, 8, 8, requires_grad=True), torch.arange(4), sumix.CutMix()
    mixed, target = mix(x, y)
    mixed.sum().backward()
    z, criterion = torch.randn(4, 5, requires_grad=True), sumix.SUMixLoss(gamma=0.1)
    criterion(z, z, target).backward()
    assert z.grad.any() and x.grad.any()
    sumix.ops.mix_box_(x.detach().clone(), target.box, target.perm)
    with torch.no_grad():
        sumix.FMix()(x, y)
    leaves, spec = _pytree.tree_flatten(target)
    assert type(_pytree.tree_unflatten(leaves, spec)) is sumix.MixTarget
    assert type(pickle.loads(pickle.dumps(target))) is sumix.MixTarget
    memory = io.BytesIO()
    torch.save(target, memory)
    memory.seek(0)
    assert type(torch.load(memory)) is sumix.MixTarget
    torch._dynamo.reset()
    compiled = torch.compile(lambda z, t: criterion(z, z, t), backend="eager", fullgraph=True)
    for criterion.gamma in (0.1, 0.2, 0.3, 0.4):
        compiled(z, target)
    torch.func.grad(lambda z: criterion(z, z, target))(z)

def forget():
    for name in [name for name in sys.modules if name.split(".")[0] == "sumix"]:
        del sys.modules[name]
    gc.collect()

import warnings
warnings.simplefilter("ignore")
"""
CASES = {
    "again": "use(); forget(); import sumix; use()",
    "the package reloaded": "importlib.reload(sumix); use()",
    "the package alone": "del sys.modules['sumix']; import sumix; use()",
    "each module reloaded": """
for name in sorted(name for name in sys.modules if name.startswith("sumix.")):
    importlib.reload(sys.modules[name])
    gc.collect()
forget(); import sumix; use()
""",
    "each module alone": """
for name in sorted(name for name in sys.modules if name.startswith("sumix.")):
    del sys.modules[name]
    importlib.import_module(name)
forget(); import sumix; use()
""",
}


@pytest.mark.package
def test_sumix_can_be_imported_again():
    for name, code in CASES.items():
        done = subprocess.run([sys.executable, "-c", USE + code], capture_output=True, text=True)
        assert done.returncode == 0, (name, done.stderr)


def test_the_readme_names_all_that_is_exported():
    words = set(re.findall(r"\w+", (Path(__file__).parent.parent / "README.md").read_text()))
    assert set(sumix.__all__) <= words
    assert all(hasattr(sumix, name) for name in sumix.__all__)
