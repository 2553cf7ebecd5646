package spawn

import (
	"os"
	"strconv"
	"strings"
	"unsafe"
)

// shrink lists the memory that a template does without: all that can be written, and
// what is reserved for more of it, but for b, memory, the variables of our binary (a
// build for go test -cover counts in them), and the stack around here, which the
// caller is on. Nothing that supervisord knows is in what stays. Without /proc all
// stays: then a start costs more, and a child's user still cannot read it.
func (b *board) shrink(memory []byte, here uintptr) {
	const page, around = 4 << 10, 8 << 10 // of a larger page half a stack would do
	b.unmapped = 0
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	b.stack = [2]uintptr{(here - around) &^ (page - 1), (here + around) &^ (page - 1)}
	keep := [][2]uintptr{b.stack, span(unsafe.Pointer(&memory[0]), regionSize), span(unsafe.Pointer(b), unsafe.Sizeof(*b))}
	program := uintptr(0) // where the part of a file that was seen last ends
	for line := range strings.Lines(string(text)) {
		m, ok := parseMapping(line)
		switch {
		case !ok:
		case m.file, m.from == program && !m.named: // the variables follow their file
			program = m.to
		case m.writable || m.reserved:
			b.cut(m.from, m.to, keep)
		}
	}
}

func span(at unsafe.Pointer, size uintptr) [2]uintptr {
	const page = 4 << 10
	return [2]uintptr{uintptr(at), (uintptr(at) + size + page - 1) &^ (page - 1)}
}

// cut lists from to to, without what is to be kept of it.
func (b *board) cut(from, to uintptr, keep [][2]uintptr) {
	for _, k := range keep {
		if k[0] < to && from < k[1] {
			b.cut(from, max(from, k[0]), keep)
			b.cut(min(to, k[1]), to, keep)
			return
		}
	}
	if from < to && b.unmapped < uintptr(len(b.unmap)) {
		b.unmap[b.unmapped] = [2]uintptr{from, to - from}
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
		writable: f[1][1] == 'w', reserved: f[1][0] == '-',
		file: f[4] != noInode, named: len(f) > 5,
	}, true
}
