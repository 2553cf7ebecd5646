package logs

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// splice(2) from a pipe to a file keeps the pipe locked for as long as the disk takes.
// A worker whose own pipe that is could not be killed while the disk hangs, if it
// writes. So bytes go from its pipe to the stage, a pipe that only the keeper uses, and
// from there to the file. Both steps are the kernel's alone: whoever is killed leaves
// each byte in the one pipe, in the other or in the file. What is in the stage belongs
// behind what is in the file, before all else.

// A Stage is a stage that outlives us.
type Stage struct {
	R, W int // of a former manager; both are the sink's from then on. Zero: there is none

	// Keep has a new stage kept for the next manager; forget is called before we
	// close it. Both may wait for a moment. Nil: nobody keeps it.
	Keep func(r, w int) (forget func(), err error)

	// Forget is Keep's answer for R and W. It may be nil.
	Forget func()
}

// A stage is what the keeper has of it.
type stage struct {
	private
	open   bool
	holds  int // bytes in it
	forget func()
}

// make sees to it that there is one.
func (g *stage) make(keep func(r, w int) (func(), error)) (err error) {
	if g.open {
		return nil
	}
	if g.private, err = newPrivate(); err != nil {
		return err
	}
	if mayEnlarge() {
		unix.FcntlInt(uintptr(g.w), unix.F_SETPIPE_SZ, roomy)
	}
	if keep != nil {
		if g.forget, err = keep(g.r, g.w); err != nil {
			g.private.close()
			return err
		}
	}
	g.open, g.holds = true, 0
	return nil
}

func (g *stage) close() {
	if !g.open {
		return
	}
	if g.forget != nil {
		g.forget()
	}
	g.private.close()
	*g = stage{}
}

// fill takes at most n bytes from a pipe.
func (g *stage) fill(fd, n int) (int, error) {
	m, err := splice(fd, nil, g.w, nil, n)
	g.holds += m
	return m, err
}

// unload moves all that it holds to a place in a file.
func (g *stage) unload(to *os.File, at int64) (n int, err error) {
	for g.holds > 0 && err == nil {
		var m int
		off := at + int64(n)
		m, err = splice(g.r, nil, int(to.Fd()), &off, g.holds)
		if m == 0 && err == nil {
			err = io.ErrShortWrite
		}
		n += m
		g.holds -= m
	}
	return n, err
}

// read takes all that it holds out of it.
func (g *stage) read() []byte {
	b := make([]byte, g.holds)
	n := readAll(g.r, b)
	g.holds = 0
	return b[:n]
}

func splice(from int, fromAt *int64, to int, toAt *int64, size int) (int, error) {
	for {
		n, err := unix.Splice(from, fromAt, to, toAt, size, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if err != unix.EINTR {
			return int(max(n, 0)), err
		}
	}
}
