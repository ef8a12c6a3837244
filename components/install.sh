#!/bin/sh
# Installs locked packages while an image is built, from the package index that the building machine uses.
#     install.sh tools                      the installer and the build tools, into /opt/tools
#     install.sh environment LOCK FOLDER    a virtual environment without pip: exactly what the lock file says
#     install.sh code FOLDER                the package of this checkout alone
# Everything is compiled to bytecode: a step's user cannot write it, and its Python would compile at every start.
set -eu

secrets=/run/secrets
if [ -e "$secrets/index" ]; then
    set -a
    . "$secrets/index"
    set +a
fi
if [ -e "$secrets/certificates" ]; then
    export PIP_CERT="$secrets/certificates" SSL_CERT_FILE="$secrets/certificates"
fi
# Where an engine mounts a cache for uv, that is another file system.
export UV_LINK_MODE=copy

case $1 in
    tools)
        python3 -m venv /opt/tools
        /opt/tools/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
            --requirement requirements/uv.txt --requirement requirements/build.txt
        ;;
    environment)
        python3 -m venv --without-pip "$3"
        # A few packages come as source alone; what builds them is locked, too.
        /opt/tools/bin/uv pip sync --python "$3/bin/python" --require-hashes --compile-bytecode \
            --build-constraint requirements/build.txt "$2"
        /opt/tools/bin/uv pip check --python "$3/bin/python"
        ;;
    code)
        /opt/tools/bin/hatchling build --target wheel --directory wheel
        /opt/tools/bin/uv pip install --python /opt/tools/bin/python --no-deps --compile-bytecode --target "$2" wheel/*.whl
        # The command line is for laptops: its code is not here.
        rm -r "$2/bin"
        ;;
    *)
        echo "install.sh: $1: no such command" >&2
        exit 2
        ;;
esac
