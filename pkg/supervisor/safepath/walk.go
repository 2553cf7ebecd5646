package safepath

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many links one path may lead through (as in the kernel).
const maxLinks = 40

// A walk is one path on its way from / to what it names.
type walk struct {
	asked   string
	trusted bool        // each directory must pass; else only links are judged
	file    bool        // it may end at something that is no directory
	make    bool        // missing directories are made
	mode    os.FileMode // with this mode
	group   bool        // above the last, a directory of root's may be open to a group

	dir   int         // where it is: an O_PATH descriptor, owned by the walk
	in    unix.Stat_t // of dir
	at    string      // dir's path; while a component is judged: that one's
	rest  []string    // components yet to come
	links int
	last  string // file: the name in dir that it ended at; else empty
}

// walkDir is a walk that must end at a directory.
func walkDir(w *walk) (*Dir, error) {
	if err := w.run(); err != nil {
		return nil, err
	}
	return &Dir{path: w.at, fd: w.dir}, nil
}

// run walks to the end. After an error nothing is left open.
func (w *walk) run() error {
	if !path.IsAbs(w.asked) || strings.ContainsRune(w.asked, 0) {
		return &Error{Path: w.asked, Component: w.asked, Err: fs.ErrInvalid, Why: "not an absolute path"}
	}
	w.rest = strings.Split(w.asked, "/")
	w.dir = -1
	if err := w.root(); err != nil {
		return err
	}
	for len(w.rest) > 0 && w.last == "" {
		name := w.rest[0]
		w.rest = w.rest[1:]
		if err := w.step(name); err != nil {
			unix.Close(w.dir)
			return err
		}
	}
	return nil
}

// root begins at /, the first time and for each absolute link.
func (w *walk) root() error {
	w.at = "/"
	return w.descend(unix.AT_FDCWD, "/", "/")
}

func (w *walk) step(name string) error {
	switch name {
	case "", ".":
		return nil
	case "..":
		w.at = path.Dir(w.at)
		return w.descend(w.dir, "..", w.at)
	}
	return w.enter(name)
}

// descend makes a directory that cannot be a link the current one.
func (w *walk) descend(from int, name, at string) error {
	fd, err := openat(from, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return w.fail(err)
	}
	st, err := stat(fd)
	if err != nil {
		unix.Close(fd)
		return w.fail(err)
	}
	return w.arrive(fd, st, at)
}

// enter goes on to an entry of the current directory, whatever that is.
func (w *walk) enter(name string) error {
	parent := w.at
	w.at = path.Join(parent, name)
	fd := -1
	st, err := w.look(w.dir, name, &fd)
	if err != nil {
		return err
	}
	switch kind(st) {
	case unix.S_IFDIR:
		return w.arrive(fd, st, w.at)
	case unix.S_IFLNK:
		defer unix.Close(fd)
		at := w.at
		w.at = parent
		return w.follow(fd, st, at)
	}
	unix.Close(fd)
	if !w.file || len(w.rest) > 0 {
		return w.fail(unix.ENOTDIR)
	}
	w.last = name
	return nil
}

// look opens an entry without following it, and makes it first if this walk
// makes directories. Two who make the same directory both find it.
func (w *walk) look(dir int, name string, fd *int) (st unix.Stat_t, err error) {
	const flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	made := false
	if *fd, err = openat(dir, name, flags, 0); err == unix.ENOENT && w.make {
		if err = retry(func() error { return unix.Mkdirat(dir, name, 0o700) }); err != nil && err != unix.EEXIST {
			return st, w.fail(err)
		}
		made = err == nil
		*fd, err = openat(dir, name, flags, 0)
	}
	if err != nil {
		return st, w.fail(err)
	}
	if made { // whatever the umask left of the mode
		err = Chmod(*fd, uint32(w.mode))
	}
	if err == nil {
		st, err = stat(*fd)
	}
	if err != nil {
		unix.Close(*fd)
		return st, w.fail(err)
	}
	return st, nil
}

// arrive judges a directory and makes it the current one. fd is the walk's, or
// closed after an error.
func (w *walk) arrive(fd int, st unix.Stat_t, at string) error {
	if why, hint := w.judge(st, at); why != "" && w.trusted {
		unix.Close(fd)
		return &Error{Path: w.asked, Component: at, Err: fs.ErrPermission, Why: why, Hint: hint}
	}
	if w.dir >= 0 {
		unix.Close(w.dir)
	}
	w.dir, w.in, w.at = fd, st, at
	return nil
}

// follow puts the target of a link before the rest of the path. A link of
// another user's would lead us where he pleases; one in his directory too, as
// he can replace it; a second name of a link says that somebody moved it there.
func (w *walk) follow(fd int, st unix.Stat_t, at string) error {
	why, _ := distrust(w.in, w.at)
	if !ours(st.Uid) || why != "" || st.Nlink != 1 {
		return &Error{
			Path: w.asked, Component: at, Err: fs.ErrPermission,
			Why: "it is a symbolic link that others could have put there", Hint: "name the real path",
		}
	}
	if w.links++; w.links > maxLinks {
		return w.fail(unix.ELOOP)
	}
	target, err := readlink(fd)
	if err != nil {
		return w.fail(err)
	}
	w.rest = append(strings.Split(target, "/"), w.rest...)
	if path.IsAbs(target) {
		return w.root()
	}
	return nil
}

// judge is distrust with the one exception of [MakeLogDir].
func (w *walk) judge(st unix.Stat_t, at string) (why, hint string) {
	left := strings.Trim(strings.Join(w.rest, "/"), "/")
	if w.group && st.Uid == 0 && !strings.Contains(left, "/") {
		st.Mode &^= 0o020
	}
	return distrust(st, at)
}

func (w *walk) fail(err error) error {
	return &Error{Path: w.asked, Component: w.at, Err: err}
}

// distrust says why others can change what the directory at a path holds; empty: they
// cannot.
func distrust(st unix.Stat_t, at string) (why, hint string) {
	switch {
	case !ours(st.Uid):
		return fmt.Sprintf("it belongs to uid %d, who can replace what is in it", st.Uid),
			fmt.Sprintf("use a directory of %s, or: chown root %s", owners(), quoted(at))
	case st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0:
		return fmt.Sprintf("others can replace what is in it (mode %04o)", st.Mode&0o7777), "chmod go-w " + quoted(at)
	}
	return "", ""
}

// ours says whether a user is no danger: root, or who we are.
func ours(uid uint32) bool { return uid == 0 || uid == self() }

func owners() string {
	if self() == 0 {
		return "root"
	}
	return fmt.Sprintf("root or uid %d", self())
}
