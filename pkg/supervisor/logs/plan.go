package logs

import (
	"bytes"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// A piece is some bytes that are to be written.
type piece struct {
	n    int
	load *load  // where they are; nil: in the keeper's text
	text []byte // the same, where there is a load
}

// put plans to write some text of a chunk.
func (k *keeper) put(c chunk, text []byte) {
	k.ahead += len(text)
	if c.load != nil {
		k.plan = append(k.plan, piece{n: len(text), load: c.load, text: text})
		return
	}
	k.text = append(k.text, text...)
	if last := len(k.plan) - 1; last >= 0 && k.plan[last].load == nil {
		k.plan[last].n += len(text)
		return
	}
	k.plan = append(k.plan, piece{n: len(text)})
}

// end is where the next bytes will be in the file.
func (k *keeper) end() int64 { return k.size + int64(k.ahead) }

// planned is the text of the plan.
func (k *keeper) planned() []byte {
	var all bytes.Buffer
	rest := k.text
	for _, p := range k.plan {
		if p.load == nil {
			p.text, rest = rest[:p.n], rest[p.n:]
		}
		all.Write(p.text)
	}
	return all.Bytes()
}

// A writing is a plan on its way to the file.
type writing struct {
	k    *keeper
	n    int // bytes that are in the file
	text []byte
}

// write carries the plan out, and returns how many bytes of it are in the file. With an
// error nothing of the rest is in a pipe any more.
func (k *keeper) write() (int, error) {
	w := writing{k: k, text: k.text}
	for i, p := range k.plan {
		if err := w.piece(p); err != nil {
			k.clear(k.plan[i+1:])
			return w.n, err
		}
	}
	err := w.unload()
	if err != nil {
		k.clear(nil)
	}
	return w.n, err
}

func (w *writing) piece(p piece) error {
	if p.load == nil {
		text := w.text[:p.n]
		w.text = w.text[p.n:]
		return w.memory(text)
	}
	if w.k.plain || w.k.stage.make(w.k.ours.Keep) != nil {
		p.load.drop(p.n)
		return w.memory(p.text)
	}
	return w.haul(p)
}

// haul brings a piece from its pipe to the stage, and that to the file when it is full.
func (w *writing) haul(p piece) error {
	for at := 0; at < p.n; {
		n, err := p.load.move(p.n-at, w.k.stage.fill)
		at += n
		switch {
		case err == errTaken:
			return w.memory(p.text[at:])
		case n > 0:
		case w.k.stage.holds > 0:
			if err := w.unload(); err != nil {
				p.load.drop(p.n - at)
				return err
			}
		default: // somebody else has read the pipe, or it is no pipe as we know it
			p.load.drop(p.n - at)
			return w.memory(p.text[at:])
		}
	}
	return nil
}

// memory writes text, after what is in the stage.
func (w *writing) memory(text []byte) error {
	if err := w.unload(); err != nil {
		return err
	}
	n, err := w.k.writeAt(text, w.place())
	w.n += n
	return err
}

func (w *writing) unload() error {
	if w.k.stage.holds == 0 {
		return nil
	}
	n, err := w.k.unload(w.place())
	w.n += n
	return err
}

// place is where the next bytes go: the end of the file, which is elsewhere than it was
// if somebody has made it shorter meanwhile (> api.log, logrotate's copytruncate), or
// longer. The records of what is about to be written go there too.
func (w *writing) place() int64 {
	k := w.k
	at := k.size + int64(w.n)
	st, err := stat(int(k.log.Fd()))
	if err == nil && st.Size != at {
		k.shift(st.Size - at)
		at = st.Size
	}
	return at
}

// unload moves what the stage holds to the file.
func (k *keeper) unload(at int64) (int, error) {
	n, err := k.stage.unload(k.log, at)
	if err != unix.EINVAL {
		return n, err
	}
	k.setPlain(true)
	m, err := k.writeAt(k.stage.read(), at+int64(n))
	return n + m, err
}

// writeAt writes to the end of the log, which is at a place.
func (k *keeper) writeAt(text []byte, at int64) (int, error) {
	if k.append {
		return k.log.Write(text)
	}
	return k.log.WriteAt(text, at)
}

// clear takes out of all pipes what cannot be written.
func (k *keeper) clear(rest []piece) {
	k.stage.read()
	for _, p := range rest {
		if p.load != nil {
			p.load.drop(p.n)
		}
	}
}

// setPlain says how the log that is open is written to.
func (k *keeper) setPlain(plain bool) {
	k.plain = plain
	k.blunt(plain, fmt.Sprintf("output is read before it is written to %s/%s, which cannot be spliced to; "+
		"if supervisord is killed, the lines that it has just read are lost", k.dir.path, k.name))
}

// The end of a line. When a line is begun in the file, its end comes next, or bear is
// over: until then the others wait in their pipes. So a line is torn only if its writer
// takes its time.

// isOf says whether the line without an end is st's.
func (k *keeper) isOf(st *Stream) bool {
	if k.from != nil {
		return k.from == st
	}
	return k.heir.Tag != 0 && k.heir.Tag == st.meta.Tag && k.heir.Invocation == st.meta.Invocation
}

// held: whoever else wants to write waits.
func (k *keeper) held() bool { return k.midline && time.Now().Before(k.until) }

func (k *keeper) continues(e errand) bool { return e.do == nil && k.isOf(e.chunk.from) }

func (k *keeper) waits(e errand) bool {
	switch {
	case e.urgent:
		return false
	case e.do != nil:
		return len(k.aside) > 0
	}
	return !(k.midline && k.isOf(e.chunk.from)) && (len(k.aside) > 0 || k.held())
}

func (k *keeper) putAside(e errand) {
	if len(k.aside) == 0 {
		time.AfterFunc(time.Until(k.until), k.urge)
	}
	if e.chunk.load != nil {
		e.chunk.load.putAside()
	}
	k.aside = append(k.aside, e)
}

// hold notes who wrote last, and has the others wait if that was no whole line. Who goes
// on with lines without an end while others wait does not get more time.
func (k *keeper) hold(c chunk, text []byte) {
	begun := !k.midline || !k.isOf(c.from) || bytes.IndexByte(text, '\n') >= 0
	k.from, k.midline = c.from, text[len(text)-1] != '\n'
	switch {
	case c.last:
		k.until = time.Time{}
	case k.midline && begun && len(k.aside) == 0:
		k.until = time.Now().Add(k.bear)
	}
}
