# Sourced by the scripts that need a tool of the system.

# need_tool TOOL: installs the Debian package of that name if the tool is missing.
need_tool() {
    if ! command -v "$1" >/dev/null; then
        local as_root=()
        [ "$(id -u)" -eq 0 ] || as_root=(sudo)
        "${as_root[@]}" apt-get update --quiet
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "$1"
    fi
    "$1" --version | head -n 1
}
