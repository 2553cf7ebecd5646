package process

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
)

// A room is the memory that a process reads environment files into, each over the one
// before: it sees the first spawn.Room bytes. What it has read is copied to behind them
// before it is told to read the next file. So whoever has the room has all files as they
// were, also who resumes the start.
type room int

// roomEach is what the copy of a file takes: its size, plus one, and its text.
const roomEach = 8 + maxFile

func newRoom(files int) (room, error) {
	fd, err := spawn.Memory(spawn.Room + files*roomEach)
	return room(fd), err
}

// text is what the process has read as its file n, of which it says that it has size
// bytes.
func (r room) text(n int, size uint64) ([]byte, error) {
	at := int64(spawn.Room + n*roomEach)
	var head [8]byte
	if err := r.read(head[:], at); err != nil {
		return nil, err
	}
	if copied := binary.NativeEndian.Uint64(head[:]); copied > 0 {
		text := make([]byte, min(copied-1, maxFile))
		return text, r.read(text, at+8)
	}
	text := make([]byte, min(size, maxFile))
	if err := r.read(text, 0); err != nil {
		return nil, err
	}
	binary.NativeEndian.PutUint64(head[:], uint64(len(text))+1)
	if err := r.write(text, at+8); err != nil {
		return nil, err
	}
	return text, r.write(head[:], at) // at last: then the copy is complete
}

func (r room) read(to []byte, at int64) error {
	n, err := retry(func() (int, error) { return unix.Pread(int(r), to, at) })
	if err == nil && n < len(to) {
		err = unix.EIO
	}
	return err
}

func (r room) write(text []byte, at int64) error {
	n, err := retry(func() (int, error) { return unix.Pwrite(int(r), text, at) })
	if err == nil && n < len(text) {
		err = unix.EIO
	}
	return err
}
