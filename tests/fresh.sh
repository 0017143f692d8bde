#!/usr/bin/env bash
# Do the README's commands work on a machine that has only git and make?
#
#   tests/fresh.sh [RELEASE [COMMAND]]
#
# In a minimal Debian, on a clone of HEAD: make demo, then pip install in a plain venv and a replay
# through DPDK; then COMMAND, if any, in the clone (data that it wants are in PYDPDK_DATA). Mirror,
# certificates and the settings of apt and pip are this machine's. The root lies in memory (2 GB;
# 5 GB with what tests need) and is mounted in a namespace: it goes with the last process in there.
set -euo pipefail
release=${1:-bookworm}
skip() { echo "fresh $release: skipped: $1"; exit 0; }

if [ -z "${FRESH_ROOT:-}" ]; then
  [ "$(id -u)" = 0 ] || skip "needs root"
  command -v debootstrap >/dev/null || skip "needs debootstrap"
  FRESH_ROOT=$(mktemp -d)
  export FRESH_ROOT
  trap 'rmdir "$FRESH_ROOT"' EXIT
  unshare --mount --pid --fork mount -t tmpfs fresh "$FRESH_ROOT" 2>/dev/null || skip "root may not mount here"
  # In the background: a shell hears no signal while it waits for what is in front of it.
  unshare --mount --pid --fork --kill-child "$BASH" "$0" "$@" &
  trap 'kill -KILL $!; exit 130' HUP INT TERM
  wait $!
  exit
fi

root=$FRESH_ROOT
mount -t tmpfs -o size=6g,mode=755 fresh "$root"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Origin: Debian' 'Label: Debian' | sed -n 1p)
echo "+ debootstrap $release"
debootstrap --variant=minbase --include=git,make "$release" "$root" ${mirror:+"$mirror"} >"$root/log" 2>&1 ||
  { tail -n 20 "$root/log" >&2; exit 1; }
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs shm "$root/dev/shm"

give() { # a file or folder of this machine, in the same place
  if [ -d "$1" ]; then
    mkdir -p "$root$1" && mount --bind "$1" "$root$1" && mount -o remount,bind,ro "$root$1"
  elif [ -f "$1" ]; then
    mkdir -p "$root${1%/*}" && cp -L "$1" "$root$1"
  fi
}
apt-config dump Acquire | grep -v ::IndexTargets: >"$root/etc/apt/apt.conf.d/99machine"
files=(/etc/xdg/pip/pip.conf /etc/pip.conf ~/.config/pip/pip.conf ~/.pip/pip.conf)
for file in "${files[@]}"; do give "$file"; done
# What they name; an index with the folder around it, as its pages link to files beside it.
for path in $({ cat "${files[@]}" 2>/dev/null; env | grep ^PIP_; } | grep -oE '/[^ =]+' | sed -E 's,^/+,/,; s,/simple/*$,,' | sort -u); do
  give "$path"
done
# In its own place, and where ca-certificates takes it from when that is installed.
bundle=/etc/ssl/certs/ca-certificates.crt
give $bundle
[ ! -f $bundle ] || install -D -m 644 $bundle "$root/usr/local/share/ca-certificates/machine.crt"
give "${PYDPDK_DATA:-}"
git clone --quiet --no-hardlinks "$(dirname "$0")/.." "$root/srv/pydpdk"

mapfile -d '' settings < <(env -0 | grep -zE '^(PIP_|SSL_CERT|PYDPDK_DATA=|[a-z]+_proxy=|[A-Z]+_PROXY=)')
fresh() { # run commands in the clone
  echo "+ $1"
  env -i HOME="$HOME" LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${settings[@]}" \
    chroot "$root" sh -ec "cd /srv/pydpdk; $1" </dev/null
}
fresh 'make demo'
fresh 'python3 -m venv /tmp/plain; /tmp/plain/bin/pip install --quiet .'
fresh 'cd /tmp; PATH=/tmp/plain/bin:$PATH; pydpdk gen small.pcap --messages 5000; pydpdk replay net_pcap:small.pcap --feed itch50'
[ -z "${2:-}" ] || fresh "$2"
