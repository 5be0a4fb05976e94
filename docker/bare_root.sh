#!/usr/bin/env bash
# Runs a command in a fresh copy of this checkout on a bare Debian, which has what the README asks for and nothing else.
#
#   docker/bare_root.sh                        make demo on Debian 12
#   docker/bare_root.sh trixie make test       a release, a command
#
# Needs root, debootstrap and the right to mount; where one is missing, or such a root cannot be made for another reason, it
# says so in a line and ends well: only the command's own failure is one. The root is made in $TMPDIR and removed at the
# end; in it the command runs as an ordinary user, with this machine's pip settings, and of the environment only what tells
# where packages come from. MIRROR names Debian's mirror; else debootstrap takes its own.
set -euo pipefail
shopt -s nullglob

release=${1:-bookworm}
shift || true
if (($# == 0)); then set -- make demo; fi
here=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=docker/package_sources.sh
source "$here/docker/package_sources.sh"

skip() { echo "bare root: skipped, $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip "only root can make one"
command -v debootstrap >/dev/null || skip "debootstrap is not installed"
own=(unshare --mount --pid --fork --kill-child)
"${own[@]}" mount -t tmpfs none /mnt 2>/dev/null || skip "this machine does not allow mounts of our own"

root=$(mktemp -d -t alphatier-bare-XXXXXX)
chmod 755 "$root"
leave() {
  status=$?
  began=; [ -e "$root/.began" ] && began=yes
  rm -rf --one-file-system "$root" "$root.log"
  if [ "$status" != 0 ] && [ -z "$began" ] && [ "$status" != 130 ]; then skip "it could not be made, as above (exit $status)"; fi
}
trap leave EXIT
trap 'exit 130' INT TERM

packages=ca-certificates,git,make,python3,python3-venv
echo "bare root: debootstrap of $release with $packages"
debootstrap --variant=minbase --include="$packages" "$release" "$root" ${MIRROR:+"$MIRROR"} >"$root.log" 2>&1 ||
  { tail -n 20 "$root.log"; skip "debootstrap failed as above"; }

# The checkout's known files as they stand. (git refuses a folder of another user's unless it is named as safe.)
home=/home/stranger
chroot "$root" useradd --create-home --home-dir "$home" --uid 1000 stranger
mkdir "$root$home/alphatier"
git -c safe.directory='*' -C "$here" ls-files -z | tar -c -C "$here" --null --files-from=- --ignore-failed-read |
  tar -x -C "$root$home/alphatier"

# Where packages come from is the machine's business: names, certificates, pip's settings and what they name.
copy() { mkdir -p "$root$(dirname "$2")"; cp -rL "$1" "$root$2"; }
for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/* /usr/local/share/ca-certificates/* /etc/pip.conf /etc/xdg/pip; do
  if [ -e "$file" ]; then rm -rf "${root:?}$file"; copy "$file" "$file"; fi
done
ours=$(getent passwd 0 | cut -d: -f6)
for folder in .config/pip .pip; do
  if [ -e "$ours/$folder" ]; then copy "$ours/$folder" "$home/$folder"; fi
done
binds=()
bind() { mkdir -p "$1" "$root$2"; binds+=("$1:$2"); }
for path in $(source_folders); do bind "$path" "$path"; done

chown -R 1000:1000 "$root$home"

environment=("HOME=$home" USER=stranger PATH=/usr/local/bin:/usr/bin:/bin)
while IFS= read -r variable; do environment+=("$variable"); done < <(
  source_variables
  env | grep -E '^(ALPHATIER_|CI=|NO_COLOR=)'
)

# shellcheck disable=SC2016 # expanded by the inner shell
"${own[@]}" bash -euc '
  root=$1; shift
  while [ "$1" != -- ]; do mount --bind "${1%%:*}" "$root${1#*:}"; shift; done
  shift
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount --rbind /dev "$root/dev"
  : >"$root/.began"
  exec chroot --userspec=1000:1000 "$root" /usr/bin/env -i "$@"
' inner "$root" "${binds[@]}" -- "${environment[@]}" sh -c 'cd ~/alphatier && exec "$@"' inner "$@"
echo "bare root: $* ends well on $release"
