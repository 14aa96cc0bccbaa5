# make_environment FOLDER EXTRAS: a virtual environment with quantbench and its extras, made once and then kept.
#
# Where the extras need torch (qat) it comes first and pinned: where a CPU build is at hand (PIP_FIND_LINKS, or
# TORCH_INDEX_URL set to PyTorch's index of CPU wheels) it is 200 MB instead of several GB of CUDA.
make_environment() {
    local folder=$1 extras=$2
    [ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
    local pip="$folder/bin/python -m pip --disable-pip-version-check --quiet"
    if [[ ",$extras," == *,qat,* ]] && ! "$folder/bin/python" -c 'import torch' 2>/dev/null; then
        $pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} --no-compile torch==2.13.0
    fi
    # Bytecode is made of what is imported, when it is: of all packages it takes longer than unpacking them.
    $pip install --no-compile -e ".[$extras]"
}
