package socket

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"unicode"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A holder is a process that has an address, as far as we may see it.
type holder struct {
	pid     int // 0: not known
	uid     int // -1: not known
	command string
}

// nobody is a holder of whom nothing is known.
var nobody = holder{uid: -1}

// whoHas finds the holder of a TCP address or abstract name in /proc. It is
// asked only after bind(2) or listen(2) has failed.
func whoHas(a unit.Address) holder {
	h, inode := nobody, ""
	if a.Network == "unix" {
		inode = unixInode(a.Path)
	} else {
		inode, h.uid = tcpInode(a)
	}
	if inode == "" {
		return h
	}
	if pid := withSocket(inode); pid > 0 {
		h.pid, h.command = pid, command(pid)
	}
	return h
}

// tcpInode looks for a socket that listens on this port, at this address or at
// all, by preference.
func tcpInode(a unit.Address) (inode string, uid int) {
	uid = -1
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		for f := range rows(file) {
			const listening = "0A"
			if len(f) < 10 || f[3] != listening || f[9] == "0" || !overlaps(f[1], a) {
				continue
			}
			inode = f[9]
			uid, _ = strconv.Atoi(f[7])
		}
	}
	return inode, uid
}

// overlaps says whether two sockets cannot listen on both addresses. local is as
// the kernel prints it: words of 32 bits in its own byte order, and the port.
func overlaps(local string, a unit.Address) bool {
	text, port, ok := strings.Cut(local, ":")
	if n, err := strconv.ParseUint(port, 16, 16); !ok || err != nil || int(n) != a.Port {
		return false
	}
	b, err := hex.DecodeString(text)
	if err != nil || len(b)%4 != 0 {
		return false
	}
	for i := 0; i < len(b); i += 4 {
		binary.BigEndian.PutUint32(b[i:], binary.NativeEndian.Uint32(b[i:]))
	}
	ip, ok := netip.AddrFromSlice(b)
	mine, err := netip.ParseAddr(a.Host)
	if !ok || a.Host == "" || err != nil {
		return ok
	}
	return ip.IsUnspecified() || mine.IsUnspecified() || ip.Unmap() == mine.Unmap()
}

func unixInode(name string) string {
	for f := range rows("/proc/net/unix") {
		if len(f) == 8 && f[7] == name {
			return f[6]
		}
	}
	return ""
}

// rows yields the fields of each line of a table in /proc.
func rows(file string) func(func([]string) bool) {
	return func(yield func([]string) bool) {
		f, err := os.Open(file)
		if err != nil {
			return
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if !yield(strings.Fields(s.Text())) {
				return
			}
		}
	}
}

// withSocket finds the first process that has a socket open, among those that we
// may look into.
func withSocket(inode string) int {
	want := "socket:[" + inode + "]"
	for _, name := range entries("/proc") {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		fds := "/proc/" + name + "/fd"
		for _, fd := range entries(fds) {
			if to, err := os.Readlink(fds + "/" + fd); err == nil && to == want {
				return pid
			}
		}
	}
	return 0
}

// entries lists a directory in its own order: in /proc, by pid.
func entries(dir string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	return names
}

// command is what a process calls itself, without what a terminal would obey.
func command(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.TrimSuffix(string(text), "\n"))
}

func procFD(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
