#!/usr/bin/env bash
# Regenerates the protobuf code of the wire schema.
# The 4.25 line (grpcio-tools 1.62) is chosen on purpose: its output loads on protobuf runtimes 3.20 to 7,
# which training environments carry; output of newer generators refuses older runtimes.
# Usage: scripts/generate_wire.sh [OUTPUT_DIR]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-agent/infoplane/wire}
venv=.venv-gen
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import grpc_tools' 2>/dev/null; then
  "${PYTHON:-python3}" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet 'grpcio-tools==1.62.3' 'setuptools<81'
fi
"$venv/bin/python" -W ignore -m grpc_tools.protoc -I agent/infoplane/wire/schema \
  --python_out="$out" --pyi_out="$out" agent/infoplane/wire/schema/infoplane.proto
