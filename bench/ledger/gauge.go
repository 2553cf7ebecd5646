package ledger

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Sockets are those whose connections are counted, by the names that clients have for
// them.
var Sockets = [...]string{"http", "unix", "tls", "tcp"}

// Gauges are the connections that a process has open, by the index of their socket.
// They are in a file that is mapped, so that they outlive a process that is killed.
type Gauges [len(Sockets)]atomic.Int64

// Gauge maps the gauges of this process. They are never unmapped.
func Gauge(path string) (*Gauges, error) {
	f, err := os.OpenFile(gaugePath(path, os.Getpid()), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const size = int(unsafe.Sizeof(Gauges{}))
	if err := f.Truncate(int64(size)); err != nil {
		return nil, err
	}
	return mapped(f, size, syscall.PROT_READ|syscall.PROT_WRITE)
}

// mapped is the one place where memory of a file becomes numbers. A mapping begins at
// a page, so they are aligned.
func mapped(f *os.File, size, prot int) (*Gauges, error) {
	b, err := syscall.Mmap(int(f.Fd()), 0, size, prot, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("cannot map %s: %w", f.Name(), err)
	}
	return (*Gauges)(unsafe.Pointer(unsafe.SliceData(b))), nil
}

// Of is the gauge of one socket.
func (g *Gauges) Of(socket string) *atomic.Int64 {
	for i, name := range Sockets {
		if name == socket {
			return &g[i]
		}
	}
	return new(atomic.Int64)
}

func gaugePath(path string, pid int) string { return path + "." + strconv.Itoa(pid) }

// Ended adds what became of the processes that ended without a word: each died with
// what its gauges show. A process without gauges had accepted nothing that is known.
func Ended(path string, entries []Entry) ([]Entry, error) {
	silent, order := map[int]string{}, []int{}
	for _, e := range entries {
		switch e.Event {
		case Began:
			silent[e.PID] = e.Build
			order = append(order, e.PID)
		case Left, Died:
			delete(silent, e.PID)
		}
	}
	for _, pid := range order {
		build, ok := silent[pid]
		if !ok {
			continue
		}
		open, err := gauged(path, pid)
		if err != nil {
			return nil, err
		}
		if open != nil {
			entries = append(entries, Entry{PID: pid, Build: build, Event: Died, Open: open})
		}
	}
	return entries, nil
}

// gauged reads the gauges of a process that has ended; nil: it had none.
func gauged(path string, pid int) (map[string]int64, error) {
	f, err := os.Open(gaugePath(path, pid))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const size = int(unsafe.Sizeof(Gauges{}))
	if about, err := f.Stat(); err != nil || about.Size() < int64(size) {
		return nil, err // it was killed before they had their size
	}
	g, err := mapped(f, size, syscall.PROT_READ)
	if err != nil {
		return nil, err
	}
	defer syscall.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(g)), size))
	open := map[string]int64{}
	for i, name := range Sockets {
		if n := g[i].Load(); n > 0 {
			open[name] = n
		}
	}
	return open, nil
}
