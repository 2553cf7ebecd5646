#!/bin/bash
# Runs tests on an arm64 machine that qemu emulates, with Debian's kernel and programs:
#
#   tools/with-arm64.sh PACKAGE [TEST-FLAG...]
#   tools/with-arm64.sh ./pkg/supervisor/process/spawn -test.v
#
# It needs Go, qemu-system-arm, cpio, apt-get and some 300 MB in ${ARM64_CACHE:-/tmp/arm64},
# which it keeps. It leaves the host as it is and does not need root. The emulation is
# some thirty times slower than the host, so give tests that take a number a smaller one.
# It stops a machine that has not finished after ${ARM64_TIMEOUT:-1500} seconds.

set -Eeuo pipefail
cd "$(dirname "$0")/.."
package=${1:?"usage: tools/with-arm64.sh PACKAGE [TEST-FLAG...]"}
shift
cache=${ARM64_CACHE:-/tmp/arm64}
root=$cache/root
for program in qemu-system-aarch64 cpio apt-get dpkg-deb; do
	command -v "$program" >/dev/null || { echo "needs $program: apt-get install qemu-system-arm cpio" >&2; exit 2; }
done

# debian LIST...: extracts packages and all that they depend on into the root, by an apt
# that knows of no installed package.
debian() {
	local release state=$cache/apt
	release=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
	mkdir -p "$state/lists/partial" "$state/archives/partial"
	: >"$state/status"
	echo "deb [arch=arm64] http://deb.debian.org/debian $release main" >"$state/sources.list"
	local options=(
		-q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::status="$state/status"
		-o Dir::State::lists="$state/lists" -o Dir::Cache="$state" -o Dir::Cache::archives="$state/archives"
		-o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=- -o APT::Sandbox::User=
		-o Debug::NoLocking=1
	)
	apt-get "${options[@]}" update
	apt-get "${options[@]}" install -y --download-only --no-install-recommends "$@"
	local deb
	for deb in "$state"/archives/*.deb; do
		dpkg-deb -x "$deb" "$root"
	done
}

if [[ ! -e $cache/ready ]]; then
	rm -rf "$root"
	mkdir -p "$root"
	debian base-files base-passwd dash bash coreutils sed grep findutils hostname libc-bin bsdutils util-linux mount procps iproute2 python3-minimal libpython3-stdlib linux-image-cloud-arm64 >&2
	ln -sf dash "$root/bin/sh"
	cp "$root"/usr/share/base-passwd/passwd.master "$root/etc/passwd"
	cp "$root"/usr/share/base-passwd/group.master "$root/etc/group"
	cp "$root"/boot/vmlinuz-* "$cache/kernel"
	rm -rf "$root"/boot "$root"/usr/share/{doc,locale,man} "$root"/usr/lib/modules "$root"/lib/modules
	ln -sf python3.* "$root/usr/bin/python3" 2>/dev/null || true
	touch "$cache/ready"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/tests"
CGO_ENABLED=0 GOARCH=arm64 go test -c -o "$work/tests/tests" "$package"
[[ ! -d $package/testdata ]] || cp -r "$package/testdata" "$work/tests/"
[[ -e $package/go.mod ]] || cp "$package"/*.go "$work/tests/" # for tests that read them
printf '%s\n' "$@" >"$work/tests/flags"
cat >"$work/init" <<'INIT'
#!/bin/bash
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm && mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /tmp && chmod 1777 /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
hostname arm64
uname -srm
cd /tests && mapfile -t flags <flags
[[ ${flags[*]} ]] || flags=()
./tests "${flags[@]}" </dev/null
echo "exit status $?"
echo o >/proc/sysrq-trigger
sleep 60
INIT
chmod +x "$work/init"
{
	(cd "$root" && find . -print0 | cpio --null --quiet -o -H newc)
	(cd "$work" && find init tests -print0 | cpio --null --quiet -o -H newc)
} >"$work/initrd"

timeout "${ARM64_TIMEOUT:-1500}" qemu-system-aarch64 -machine virt -cpu max,pauth-impdef=on -smp 2 -m 3G \
	-nographic -no-reboot -net none -kernel "$cache/kernel" -initrd "$work/initrd" \
	-append "console=ttyAMA0 quiet panic=-1 rdinit=/init" </dev/null | tr -d '\r' | tee "$work/log"
grep -q '^exit status 0$' "$work/log"
