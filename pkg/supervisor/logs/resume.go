package logs

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// What a former manager leaves: the pipes of its streams, and its stage. The stage holds
// what comes next in the file, and the index tells whose that is: its records are
// written before the text. So the file ends where its size says.

// Keep has the pipe kept for the next manager, before anybody writes to it: keep is told
// both ends, which stay the stream's, and may wait for a moment. forget is called when
// the stream is over, before the stream closes them, so that whoever keeps them never
// closes the last copy, which can block. From then on the pipe has no end of file: the
// stream ends with Finish alone.
func (st *Stream) Keep(keep func(r, w int) (forget func(), err error)) error {
	var forget func()
	var err error
	if e := st.raw.Control(func(fd uintptr) { forget, err = keep(int(fd), st.WriteEnd()) }); e != nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("cannot keep the output pipe of %s: %w", st.sink.service, err)
	}
	st.kept(forget)
	return nil
}

func (st *Stream) kept(forget func()) {
	if forget == nil {
		forget = func() {}
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.forget = forget
}

// Resume goes on with a stream of a former manager: what waits in its pipe comes, and
// the end of what came before is its tail again, as far as it is in the file. r and w
// are the ends that were kept, and are the stream's from then on, also with an error;
// forget is as for Keep. The rest is as for [Sink.Stream].
func (s *Sink) Resume(m Meta, r, w int, forget func()) (*Stream, error) {
	if err := isPipe(r); err != nil {
		unix.Close(r)
		unix.Close(w)
		return nil, fmt.Errorf("cannot go on with the output pipe of %s: %w", s.service, err)
	}
	st, err := s.stream(m, r, w)
	if err != nil {
		return nil, err
	}
	st.kept(forget)
	go func() {
		st.remember()
		st.copy()
	}()
	return st, nil
}

var errNoPipe = errors.New("what was kept is not a pipe")

func isPipe(fd int) error {
	st, err := stat(fd)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFIFO {
		err = errNoPipe
	}
	return err
}

// let lets go of the pipe. Where it is kept nobody waits for that.
func (st *Stream) let() {
	st.mu.Lock()
	forget, w := st.forget, st.end
	if forget != nil {
		st.end = -1
	}
	st.mu.Unlock()
	if forget == nil {
		st.file.Close()
		return
	}
	go func() {
		if !st.leave.Load() {
			forget()
		}
		st.file.Close()
		if w >= 0 {
			unix.Close(w)
		}
	}()
}

// remember reads the tail back from the file, unless the disk does not answer.
func (st *Stream) remember() {
	s := st.sink
	found := make(chan []chunk, 1)
	s.mu.Lock()
	late := s.disk.late
	if s.spec.File {
		s.disk.add(errand{do: func() { found <- s.keep.tailOf(st) }, urgent: true}, 0)
	} else {
		close(found)
	}
	s.mu.Unlock()
	t := time.NewTimer(late)
	defer t.Stop()
	select {
	case all := <-found:
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, c := range all {
			st.tail.add(c)
		}
	case <-t.C:
	}
}

// maxRecall is how much of a file is looked through for the end of a stream.
const maxRecall = 256 << 10

// tailOf is the end of what a stream has in the file.
func (k *keeper) tailOf(st *Stream) (all []chunk) {
	f, ok := pastFile{}, k.ready()
	if ok {
		f, ok = k.present()
	}
	if !ok {
		return nil
	}
	defer history{files: []pastFile{f}}.close()
	at := max(0, f.size-maxRecall)
	text := make([]byte, f.size-at)
	n, _ := f.log.ReadAt(text, at)
	marks := f.marker()
	for text = text[:n]; len(text) > 0; {
		_, rest, _ := cutLine(text)
		marks.goTo(at, func(entry) bool { return true })
		if marks.at.Tag == st.meta.Tag && marks.at.Invocation == st.meta.Invocation {
			whole := text[:len(text)-len(rest)]
			all = append(all, chunk{text: whole, time: marks.at.time})
		}
		at += int64(len(text) - len(rest))
		text = rest
	}
	return all
}

// inherit takes a former manager's stage over.
func (k *keeper) inherit(from Stage) {
	k.ours = from
	if from.R == 0 && from.W == 0 {
		return
	}
	k.stage = stage{private: private{from.R, from.W}, open: true, forget: from.Forget}
	k.resuming = true
}

// goOn has the files opened at once where there may be something for them.
func (s *Sink) goOn() {
	if s.keep.resuming && s.spec.File {
		s.errand(func() {
			if s.keep.ready() && !s.keep.midline {
				s.keep.rest()
			}
		})
	}
}

// takeUp brings to the file what a former manager had in its stage, and says whether
// there was anything. What does not fit is lost.
func (k *keeper) takeUp() bool {
	if k.stage.holds = holds(k.stage.r); k.stage.holds == 0 {
		return false
	}
	n, err := k.unload(k.size)
	k.written += uint64(k.linesBehind(k.size, n))
	if err != nil {
		k.drop(k.stage.read())
		k.err = k.fault("write", k.name, err)
	}
	return true
}

// linesBehind counts the lines that end in n bytes of the file.
func (k *keeper) linesBehind(at int64, n int) int {
	text := make([]byte, n)
	got, _ := k.log.ReadAt(text, at)
	return bytes.Count(text[:got], newline)
}

// recall finds out who was killed in the midst of a line, when the files are open for
// the first time: the rest is in that stream's pipe.
func (k *keeper) recall() {
	if !k.resuming || k.log == nil {
		return
	}
	k.resuming = false
	if !k.midline || k.idx == nil {
		return
	}
	for at := k.idxSize - recordSize; at >= recordSize; at -= recordSize {
		var b [recordSize]byte
		if _, err := k.idx.ReadAt(b[:], at); err != nil {
			return
		}
		if e, ok := decodeEntry(b[:]); !ok || e.offset < k.size {
			k.heir, k.until = e.Meta, time.Now().Add(k.bear)
			return
		}
	}
}
