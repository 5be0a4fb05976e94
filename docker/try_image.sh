#!/usr/bin/env bash
# Builds the gateway's image without a container engine, runs it, and asks it; CI does so where that is possible.
#
#   docker/try_image.sh
#
# Needs root, buildah, debootstrap and .venv (for the engine that stands in). The base that the Dockerfile names is a Debian by
# debootstrap here, with its python3. Where something is missing it says so in a line and ends well.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=docker/package_sources.sh
source "$here/docker/package_sources.sh"
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot

skip() { echo "image: skipped, $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip "only root can build one so"
command -v buildah >/dev/null || skip "buildah is not installed"
command -v debootstrap >/dev/null || skip "debootstrap is not installed"

work=$(mktemp -d -t alphatier-image-XXXXXX)
tag=localhost/alphatier-try-$$
container=
leave() {
  kill $(jobs -p) 2>/dev/null || true
  [ -z "$container" ] || buildah rm "$container" >/dev/null 2>&1 || true
  buildah rmi --force "$tag" "$tag-base" >/dev/null 2>&1 || true
  rm -rf --one-file-system "$work"
}
trap leave EXIT
trap 'echo "image: line $LINENO failed"' ERR
mkdir "$work/engine"

debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm "$work/root" >"$work/log" 2>&1 ||
  { tail -n 5 "$work/log"; skip "debootstrap failed as above"; }
base=$(buildah from scratch 2>"$work/log") || { tail -n 5 "$work/log"; skip "buildah cannot work here"; }
buildah copy --quiet "$base" "$work/root" / >/dev/null
buildah run "$base" -- true 2>"$work/log" || { tail -n 5 "$work/log"; skip "buildah may run nothing here"; }
buildah commit --quiet --rm "$base" "$tag-base" >/dev/null

given=()
for path in /etc/pip.conf /etc/xdg/pip /etc/ssl/certs $(source_folders); do
  if [ -e "$path" ]; then given+=(--volume "$path:$path:ro"); fi
done
while IFS= read -r variable; do given+=(--env "$variable"); done < <(source_variables)
buildah build --quiet "${given[@]}" --build-arg BASE="$tag-base" --file "$here/docker/gateway.Dockerfile" --tag "$tag" "$here" >/dev/null

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
engine=$(port) gateway=$(port)
PYTHONPATH=$here/tests "$here/.venv/bin/python" "$here/tests/support/fake_vllm.py" --folder "$work/engine" --host 127.0.0.1 \
  --port "$engine" --served-model-name tiny:base >"$work/engine.log" 2>&1 &
cp -r "$here/models/tiny" "$work/family" # readable for the image's user, whatever the umask of this checkout
chmod a+rx "$work"; chmod -R a+rX "$work/family"
container=$(buildah from "$tag")
buildah run --volume "$work/family:/family:ro" "$container" -- alphatier serve --host 127.0.0.1 --port "$gateway" \
  --family /family --engine "http://127.0.0.1:$engine" >"$work/gateway.log" 2>&1 &
url=http://127.0.0.1:$gateway
curl --silent --fail --retry 60 --retry-delay 1 --retry-all-errors "$url/health/ready" >/dev/null ||
  { tail -n 20 "$work"/*.log; echo "image: its gateway is not ready"; exit 1; }
answer=$(curl --silent --fail-with-body "$url/v1/chat/completions" --header 'Content-Type: application/json' \
  --data '{"model": "tiny:base", "messages": [{"role": "user", "content": "What is 1 + 1?"}]}')
grep -q '"model": *"tiny:base"' <<<"$answer" || { echo "image: it answered $answer"; exit 1; }
page=$(curl --silent --fail "$url/playground")
grep -q playground.js <<<"$page" || { echo "image: its playground is $page"; exit 1; }
user=$(buildah run "$container" -- id -u)
[ "$user" = 10001 ] || { echo "image: it runs as user $user"; exit 1; }
size=$(buildah images --noheading --format '{{.Size}}' "$tag")
echo "image: built ($size with Debian's base), run as user 10001, and asked"
