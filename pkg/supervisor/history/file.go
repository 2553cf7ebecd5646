package history

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// write appends text to the file, and returns when it is on disk. All of it is
// there then, or nothing.
func (l *Log) write(text []byte) error {
	l.dir.Again() // or open says what is wrong
	f, size, err := l.open(len(text))
	if err != nil {
		return fmt.Errorf("cannot keep the history: %w", err)
	}
	defer f.Close()
	torn, err := endsWithin(f, size)
	if torn {
		text = append([]byte{'\n'}, text...)
	}
	if err == nil {
		_, err = f.Write(text)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		f.Truncate(size) // what a failure of this leaves is half a record, which readers pass over
		return fmt.Errorf("cannot keep the history: %w", unwrap(err))
	}
	if torn {
		l.fault(fmt.Errorf("%s ended within a record, which was cut off when it was written: it is passed over", f.Name()))
	}
	return nil
}

// open opens the file for n bytes more, and returns what it has. One that would
// become too long is put aside first.
func (l *Log) open(n int) (f *os.File, size int64, err error) {
	if f, size, err = l.openFile(Name, appending); err != nil || size == 0 || size+int64(n) <= maxFile {
		return f, size, err
	}
	f.Close()
	if err := l.dir.Rename(Name, Name+".1"); err != nil {
		return nil, 0, err
	}
	return l.openFile(Name, appending)
}

const appending = os.O_RDWR | os.O_APPEND | os.O_CREATE

// openFile opens a file of the history, and returns how long it is.
func (l *Log) openFile(name string, flag int) (*os.File, int64, error) {
	f, err := l.dir.Open(name, flag, 0o600)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// endsWithin: the last line has no end.
func endsWithin(f *os.File, size int64) (bool, error) {
	if size == 0 {
		return false, nil
	}
	var last [1]byte
	_, err := f.ReadAt(last[:], size-1)
	return last[0] != '\n' && err == nil, err
}

// unwrap takes off what [os.File] says of a failed call but the file and the cause.
func unwrap(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return fmt.Errorf("%s: %w", p.Path, p.Err)
	}
	return err
}

// Backwards calls f with each record, the newest first, until f returns false. A
// record is one JSON object, and belongs to the caller until f returns. Those that
// were added are there at once, whether they are on disk or not. damaged is how
// many lines before that were no records, and passed over.
//
// A reader waits for a batch that is being written. The writer waits for readers
// while they open the files, and not while they read.
func (l *Log) Backwards(f func(record []byte) bool) (damaged int, err error) {
	unwritten, files, err := l.snapshot()
	if err != nil {
		return 0, fmt.Errorf("cannot read the history: %w", err)
	}
	defer closeAll(files)
	damaged, more := backwards(unwritten, f)
	for _, file := range files {
		if !more {
			break
		}
		text, err := file.tail()
		if err != nil {
			return damaged, fmt.Errorf("cannot read the history: %w", unwrap(err))
		}
		n, goOn := backwards(text, f)
		damaged, more = damaged+n, goOn
	}
	return damaged, nil
}

// A part is a file of the history as it was at a moment.
type part struct {
	*os.File
	size int64
}

// snapshot returns what is not written, and the files without it.
func (l *Log) snapshot() ([]byte, []part, error) {
	l.disk.Lock()
	defer l.disk.Unlock()
	files, err := l.openBoth()
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Join([][]byte{l.batch, l.pending}, nil), files, err
}

// openBoth opens the files that there are, the current one first.
func (l *Log) openBoth() (files []part, err error) {
	for _, name := range []string{Name, Name + ".1"} {
		f, size, err := l.openFile(name, os.O_RDONLY)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			closeAll(files)
			return nil, err
		}
		files = append(files, part{f, size})
	}
	return files, nil
}

func closeAll(files []part) {
	for _, f := range files {
		f.Close()
	}
}

// tail reads the last maxFile bytes, from the beginning of a line on.
func (p part) tail() ([]byte, error) {
	from := max(0, p.size-maxFile)
	text := make([]byte, p.size-from)
	n, err := p.ReadAt(text, from)
	if err != nil && err != io.EOF { // EOF: somebody has cut it meanwhile
		return nil, err
	}
	text = text[:n]
	if from > 0 {
		text = text[bytes.IndexByte(text, '\n')+1:]
	}
	return text, nil
}
