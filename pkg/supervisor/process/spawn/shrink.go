package spawn

import (
	"os"
	"strconv"
	"strings"
	"unsafe"
)

// shrink lists the memory that a template does without: all that can be written, and
// what is reserved for more of it, but for b with what is behind it, and the pages of the
// stack around here, which the caller is on, and of which wipe clears what is not used.
// So of what supervisord knows nothing stays. Without /proc all stays: then a start costs more, and a
// child's user still cannot read it.
func (b *board) shrink(here uintptr, variables bool) {
	b.unmapped = 0
	if text, err := os.ReadFile("/proc/self/maps"); err == nil {
		b.list(string(text), here, uintptr(os.Getpagesize()), variables)
	}
}

// list is shrink by a text of proc_pid_maps(5), which is in the order of addresses.
func (b *board) list(maps string, here, page uintptr, variables bool) {
	const around = 8 << 10
	b.stack = [2]uintptr{(here - around) &^ (page - 1), (here + around + page - 1) &^ (page - 1)}
	at := uintptr(unsafe.Pointer(b))
	keep := [][2]uintptr{b.stack, {at, at + boardSize + regionSize}}
	program := uintptr(0) // where the part of a file that was seen last ends
	kept := uintptr(0)    // where what stays ends, as far as it was seen
	for line := range strings.Lines(maps) {
		m, ok := parseMapping(line)
		if !ok {
			continue
		}
		if m.file || m.from == program && !m.named { // our binary, and the variables that follow
			if program = m.to; variables {
				kept = m.to
				continue
			}
		}
		if m.writable || m.reserved {
			kept = b.cut(m.from, m.to, kept, keep)
		} else {
			kept = m.to
		}
	}
}

// cut lists from to to, without what is to be kept of it, and returns where that ends.
func (b *board) cut(from, to, kept uintptr, keep [][2]uintptr) uintptr {
	if from >= to {
		return kept
	}
	for _, k := range keep {
		if k[0] < to && from < k[1] {
			b.cut(from, max(from, k[0]), kept, keep)
			return b.cut(min(to, k[1]), to, min(to, k[1]), keep)
		}
	}
	b.without(from, to, kept)
	return kept
}

// without adds to the list. Where nothing that stays is between, what is there is one with
// what was listed last: so the list is short, however many mappings there are.
func (b *board) without(from, to, kept uintptr) {
	if n := b.unmapped; n > 0 && b.unmap[n-1][0]+b.unmap[n-1][1] >= kept {
		b.unmap[n-1][1] = to - b.unmap[n-1][0]
	} else if n < uintptr(len(b.unmap)) {
		b.unmap[n] = [2]uintptr{from, to - from}
		b.unmapped++
	}
}

// A mapping is a line of proc_pid_maps(5).
type mapping struct {
	from, to           uintptr
	writable, reserved bool
	file, named        bool // it is a file's, or the kernel has a name for it: [stack]
}

func parseMapping(line string) (m mapping, ok bool) {
	f := strings.Fields(line)
	if len(f) < 5 || len(f[1]) < 2 {
		return m, false
	}
	low, high, _ := strings.Cut(f[0], "-")
	from, err := strconv.ParseUint(low, 16, 64)
	if err != nil {
		return m, false
	}
	to, err := strconv.ParseUint(high, 16, 64)
	if err != nil {
		return m, false
	}
	const noInode = "0"
	return mapping{
		from: uintptr(from), to: uintptr(to),
		writable: f[1][1] == 'w', reserved: strings.HasPrefix(f[1], "---"), // [vsyscall] is --x, and not ours to unmap
		file: f[4] != noInode, named: len(f) > 5,
	}, true
}

// filesAtMost is a number above those of all files that we have open, for the limit of
// their number. The kernel's table of them may be far smaller (proc_pid_status(5),
// FDSize); twice as much is for what is opened until the fork.
func filesAtMost(limit uint64) uintptr {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return uintptr(limit)
	}
	_, rest, _ := strings.Cut(string(text), "\nFDSize:")
	line, _, _ := strings.Cut(rest, "\n")
	size, err := strconv.ParseUint(strings.TrimSpace(line), 10, 31)
	if err != nil {
		return uintptr(limit)
	}
	return uintptr(2 * size)
}
