# Where packages come from is the machine's business. Sourced by what makes another root or image install them.

# Folders that pip's settings name. An index in a folder has its files beside it.
source_folders() {
  local path
  for path in $(python3 -m pip config list | grep -oE "(file://)?/[^' ]+"); do
    case $path in file:///*/*) path=$(dirname "${path#file://}") ;; esac
    if [ -d "$path" ]; then echo "$path"; fi
  done
}

# Variables of the environment that say so, a line each.
source_variables() {
  env | grep -E '^(PIP_|UV_|SSL_CERT_|REQUESTS_CA_BUNDLE=|(https?|no|all)_proxy=|(HTTPS?|NO|ALL)_PROXY=)' || true
}
