package logs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// maxPast is how many rotated files are read at most.
const maxPast = 64

// A history is the log of a service as it was at one moment: open files, which
// stay what they are whatever their names become.
type history struct {
	files  []pastFile // the latest first
	memory []Line     // what to say if there are no files
}

type pastFile struct {
	log, idx *os.File // idx may be nil
	size     int64    // of log, which may grow meanwhile
	idxSize  int64
	packed   bool // log is compressed
}

func (h history) close() {
	for _, f := range h.files {
		f.log.Close()
		if f.idx != nil {
			f.idx.Close()
		}
	}
}

// history opens what there is now. All that was queued before is in it.
func (k *keeper) history() (h history) {
	if k.dir == nil || k.closed {
		return h
	}
	if f, ok := k.present(); ok {
		h.files = append(h.files, f)
	}
	for n := 1; n <= min(k.spec.MaxFiles, maxPast); n++ {
		f, ok := k.openPast(k.past(n), "")
		if !ok {
			f, ok = k.openPast(k.past(n), ".gz")
		}
		if ok {
			h.files = append(h.files, f)
		}
	}
	return h
}

// present is the current file: the one that is open, even if it was moved.
func (k *keeper) present() (f pastFile, ok bool) {
	if k.log == nil {
		return k.openPast(k.name, "")
	}
	if f.log = dup(k.log); f.log == nil {
		return f, false
	}
	f.size = k.size
	if k.idx != nil {
		f.idx, f.idxSize = dup(k.idx), k.idxSize
	}
	return f, true
}

func (k *keeper) openPast(name, suffix string) (f pastFile, ok bool) {
	var err error
	if f.log, err = k.dir.Open(name+suffix, os.O_RDONLY, 0); err != nil {
		return f, false
	}
	f.size, f.packed = math.MaxInt64, suffix != ""
	if f.idx, err = k.dir.Open(name+".idx", os.O_RDONLY, 0); err != nil {
		f.idx = nil
	}
	f.idxSize = math.MaxInt64
	return f, true
}

func dup(f *os.File) *os.File {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), f.Name())
}

// lines yields the last lines that are wanted, and says whether to go on. The
// error is of files of which not all can be read.
func (h history) lines(ctx context.Context, q Query, yield func(Line, error) bool) (going bool, err error) {
	if q.N == 0 {
		return true, nil
	}
	if len(h.files) == 0 {
		return h.fromMemory(q, yield), nil
	}
	going = true
	oldest, skip := h.enough(ctx, q)
	for i := oldest; i >= 0 && going; i-- {
		err = errors.Join(err, h.files[i].scan(func(l Line) bool {
			switch {
			case !q.wants(l.Meta, l.Time):
			case skip == 0:
				going = ctx.Err() == nil && yield(l, nil)
			case l.ends():
				skip--
			}
			return going
		}))
	}
	return going, err
}

// ends: it counts as a line. Of one that comes in pieces it is the last that does.
func (l Line) ends() bool { return l.Text != nil && !l.Part }

// enough counts from the latest file back until there are as many lines as are
// wanted. It returns where to begin, and how many there are too many.
func (h history) enough(ctx context.Context, q Query) (oldest int, skip uint64) {
	if q.N < 0 {
		return len(h.files) - 1, 0
	}
	var have, want uint64 = 0, uint64(q.N)
	for i := 0; i < len(h.files) && have < want; i++ {
		oldest = i
		open := false // a piece is the last
		h.files[i].scan(func(l Line) bool {
			if q.wants(l.Meta, l.Time) && l.Text != nil {
				if open = l.Part; !open {
					have++
				}
			}
			return ctx.Err() == nil
		}) // an error is met again when the lines are read
		if open && i == 0 {
			have++
		}
	}
	return oldest, have - min(have, want)
}

func (h history) fromMemory(q Query, yield func(Line, error) bool) bool {
	wanted := slices.DeleteFunc(h.memory, func(l Line) bool { return !q.wants(l.Meta, l.Time) })
	if q.N >= 0 {
		wanted = lastLines(wanted, q.N)
	}
	for _, l := range wanted {
		if !yield(l, nil) {
			return false
		}
	}
	return true
}

// knows says whether an index tells of an invocation.
func (h history) knows(t Tag) bool {
	for _, f := range h.files {
		for m := f.marker(); m.more; m.advance() {
			if m.next.Tag == t {
				return true
			}
		}
	}
	return slices.ContainsFunc(h.memory, func(l Line) bool { return l.Tag == t })
}

// lastLines are the last n; pieces are none of their own.
func lastLines(all []Line, n int) []Line {
	i := len(all)
	for ; i > 0; i-- {
		if l := all[i-1]; l.ends() || i == len(all) {
			if n--; n < 0 {
				break
			}
		}
	}
	return all[i:]
}

// scan emits each line of a file, and what is missing between them. It ends when emit
// says so.
func (f pastFile) scan(emit func(Line) bool) error {
	log, err := f.open()
	if err != nil {
		return err
	}
	return f.fault(scan(log, f.marker(), emit))
}

func scan(log io.Reader, marks *marker, emit func(Line) bool) error {
	r := bufio.NewReaderSize(log, 4*MaxLine)
	for at := int64(0); ; {
		b, err := r.Peek(MaxLine + 1)
		if len(b) == 0 {
			return err
		}
		text, rest, whole := cutLine(b)
		if !marks.goTo(at, func(e entry) bool { return emit(e.missing()) }) || !emit(marks.at.line(text, whole)) {
			return nil
		}
		n, _ := r.Discard(len(b) - len(rest))
		at += int64(n)
	}
}

func (f pastFile) open() (io.Reader, error) {
	plain := io.NewSectionReader(f.log, 0, f.size)
	if !f.packed {
		return plain, nil
	}
	z, err := gzip.NewReader(plain)
	return z, f.fault(err)
}

func (f pastFile) fault(err error) error {
	if err == nil || err == io.EOF {
		return nil
	}
	return fmt.Errorf("cannot read %s: %w", f.log.Name(), err)
}

func (f pastFile) marker() *marker {
	if f.idx == nil {
		return newMarker(bytes.NewReader(nil))
	}
	return newMarker(io.NewSectionReader(f.idx, 0, f.idxSize))
}

func (e entry) line(text []byte, whole bool) Line {
	return Line{Time: e.time, Meta: e.Meta, Text: append([]byte{}, text...), Part: !whole}
}

func (e entry) missing() Line { return Line{Time: e.time, Meta: e.Meta, Lost: uint64(e.lost)} }
