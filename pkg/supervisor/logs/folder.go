package logs

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

// A folder is the log directory. It is walked to anew when it is gone. Only who may wait
// for the disk asks it for anything but its path.
type folder struct {
	*safepath.Dir
	path  string
	mode  os.FileMode
	gid   int
	known bool // mode and gid are those of the directory that we were given
	own   bool // we opened Dir, not our caller
}

func newFolder(dir *safepath.Dir) *folder {
	if dir == nil {
		return nil
	}
	return &folder{Dir: dir, path: dir.Path(), mode: 0o750, gid: -1}
}

// know looks once at what the directory is like.
func (f *folder) know() {
	if f.known {
		return
	}
	f.known = true
	if st, err := stat(f.FD()); err == nil {
		f.mode, f.gid = os.FileMode(st.Mode)&0o777, int(st.Gid)
	}
}

// open opens a file and gives it to the directory's group, whose members may
// read it. That it belongs to us and is nothing but a file, safepath sees to.
func (f *folder) open(name string, flag int) (*os.File, error) {
	f.know()
	file, err := f.Open(name, flag, 0o640)
	if err != nil {
		return nil, err
	}
	if st, err := stat(int(file.Fd())); err == nil && int(st.Gid) != f.gid && f.gid >= 0 {
		unix.Fchown(int(file.Fd()), -1, f.gid) // if not, only we can read it
	}
	return file, nil
}

// walk opens the directory by its path, and makes it if it is missing.
func (f *folder) walk() error {
	f.know()
	dir, err := safepath.MakeLogDir(f.path, f.mode)
	if err != nil {
		return err
	}
	safepath.Chown(dir.FD(), -1, f.gid)
	f.close()
	f.Dir, f.own = dir, true
	return nil
}

func (f *folder) close() {
	if f.own {
		f.Dir.Close()
		f.own = false
	}
}

func stat(fd int) (st unix.Stat_t, err error) {
	err = unix.Fstat(fd, &st)
	return st, err
}
