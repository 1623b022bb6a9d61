"""`python -m tests.university --port 8080`: the made-up university, until Ctrl-C."""

import argparse
import signal

from tests.university.serving import START, serving

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
with serving(parser.parse_args().port) as university:
    print(f"To look at: http://www.localhost:{university.port}/. To crawl:")
    options = " ".join(f"--resolve {one}" for one in university.resolve)
    print(f"python -m rag crawl {START} {options}", flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
