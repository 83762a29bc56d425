#!/bin/sh
# What the Web Adapter starts, and the handler of the streaming function. boto3 is the runtime's own.
set -eu
cd "$(dirname "$0")"
export PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}/opt/python:${LAMBDA_RUNTIME_DIR:-/var/runtime}"
exec python -m handler.data.server
