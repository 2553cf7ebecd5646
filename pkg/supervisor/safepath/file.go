package safepath

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// quiet are the flags of every file opened here: no link is followed, no FIFO
// waited for, no terminal acquired, nothing leaks into a child.
const quiet = unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_NOCTTY

// Open opens a regular file of ours or root's that has no second name (a hard
// link made by somebody else would let us write into his choice of file).
// flag is as for [os.OpenFile]; a file that it creates gets exactly perm,
// whatever the umask. The file is truncated only after it has been judged.
func (d *Dir) Open(name string, flag int, perm os.FileMode) (*os.File, error) {
	if err := d.mustBeName(name); err != nil {
		return nil, err
	}
	fd, err := d.openOrCreate(name, flag, perm)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", d.join(name), err)
	}
	if err := settle(fd, flag); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot open %s: %w", d.join(name), err)
	}
	return os.NewFile(uintptr(fd), d.join(name)), nil
}

// openOrCreate keeps apart whether the file is new, since only then its mode is
// ours to set. The other case may change between two tries, not for ever.
func (d *Dir) openOrCreate(name string, flag int, perm os.FileMode) (fd int, err error) {
	open := flag&^(os.O_TRUNC|os.O_CREATE|os.O_EXCL) | quiet
	for range 10 {
		if flag&os.O_EXCL == 0 {
			fd, err = openat(d.fd, name, open, 0)
			if err != unix.ENOENT || flag&os.O_CREATE == 0 {
				return fd, plain(err)
			}
		}
		fd, err = openat(d.fd, name, open|unix.O_CREAT|unix.O_EXCL, 0o600)
		if err == nil {
			if err = unix.Fchmod(fd, uint32(perm.Perm())); err != nil {
				unix.Close(fd)
				return -1, err
			}
			return fd, nil
		}
		if err != unix.EEXIST || flag&os.O_EXCL != 0 {
			break
		}
	}
	return -1, plain(err)
}

// settle judges an open file and makes it an ordinary one.
func settle(fd, flag int) error {
	st, err := stat(fd)
	if err != nil {
		return err
	}
	if err := judge(st); err != nil {
		return err
	}
	if flag&os.O_TRUNC != 0 && st.Size > 0 {
		if err := retry(func() error { return unix.Ftruncate(fd, 0) }); err != nil {
			return err
		}
	}
	return unix.SetNonblock(fd, false)
}

func judge(st unix.Stat_t) error {
	switch {
	case kind(st) != unix.S_IFREG:
		return &notPlain{"it is not a regular file"}
	case !ours(st.Uid):
		return &notPlain{fmt.Sprintf("it belongs to uid %d, not to %s", st.Uid, owners())}
	case st.Nlink > 1: // 0: it was replaced meanwhile, and nobody else has it
		return &notPlain{fmt.Sprintf("it has %d names (hard links)", st.Nlink)}
	}
	return nil
}

// notPlain is a refusal in words, which [errors.Is] takes for ErrPermission.
type notPlain struct{ why string }

func (e *notPlain) Error() string { return e.why }
func (e *notPlain) Unwrap() error { return fs.ErrPermission }

// plain words what openat says of things that are no regular files.
func plain(err error) error {
	switch err {
	case unix.ELOOP:
		return &notPlain{"it is a symbolic link"}
	case unix.ENXIO, unix.ENODEV:
		return &notPlain{"it is not a regular file"}
	}
	return err
}

// ReadFile reads a file of at most max bytes whose whole path, the targets of
// links included, is root's or ours and closed to the writing of others. An
// ordinary user may read what he likes: for him only kind and size are checked.
func ReadFile(path string, max int64) ([]byte, error) {
	text, _, err := ReadStamped(path, max)
	return text, err
}

// ReadStamped is [ReadFile] with the stamp that the file had before the first
// byte was read: whoever changes it meanwhile, or later, changes its stamp.
func ReadStamped(path string, max int64) ([]byte, Stamp, error) {
	if self() != 0 {
		return readAsUser(path, max)
	}
	return readTrusted(path, max)
}

// ReadTrusted is [ReadFile] without the exception for an ordinary user: it is for what
// is read in the name of another one.
func ReadTrusted(path string, max int64) ([]byte, error) {
	text, _, err := readTrusted(path, max)
	return text, err
}

func readTrusted(path string, max int64) ([]byte, Stamp, error) {
	w := &walk{asked: path, trusted: true, file: true}
	if err := w.run(); err != nil {
		return nil, Stamp{}, err
	}
	defer unix.Close(w.dir)
	if w.last == "" {
		return nil, Stamp{}, w.fail(unix.EISDIR)
	}
	return w.read(max)
}

func (w *walk) read(max int64) ([]byte, Stamp, error) {
	fd, err := openat(w.dir, w.last, unix.O_RDONLY|quiet, 0)
	if err != nil {
		return nil, Stamp{}, w.fail(plain(err))
	}
	defer unix.Close(fd)
	st, err := stat(fd)
	if err != nil {
		return nil, Stamp{}, w.fail(err)
	}
	if why, hint := w.suspect(st); why != "" {
		return nil, Stamp{}, &Error{Path: w.asked, Component: w.at, Err: fs.ErrPermission, Why: why, Hint: hint}
	}
	text, err := slurp(fd, max)
	if err != nil {
		return nil, Stamp{}, w.fail(err)
	}
	return text, stampOf(st), nil
}

// suspect says why others can change a file, or choose which file it is. In a
// directory where they may add names, a second name may be theirs.
func (w *walk) suspect(st unix.Stat_t) (why, hint string) {
	switch {
	case kind(st) != unix.S_IFREG:
		return "it is not a regular file", ""
	case !ours(st.Uid):
		return fmt.Sprintf("it belongs to uid %d", st.Uid), "run it without sudo, or: chown root " + quoted(w.at)
	case st.Mode&0o022 != 0:
		return fmt.Sprintf("others can write to it (mode %04o)", st.Mode&0o7777), "chmod go-w " + quoted(w.at)
	case st.Nlink != 1 && w.in.Mode&0o022 != 0:
		return "it has a second name (hard link) in a directory that others write to", "copy it elsewhere"
	}
	return "", ""
}

func readAsUser(path string, max int64) ([]byte, Stamp, error) {
	fail := func(err error) ([]byte, Stamp, error) {
		return nil, Stamp{}, &Error{Path: path, Component: path, Err: err}
	}
	fd, err := openat(unix.AT_FDCWD, path, quiet&^unix.O_NOFOLLOW, 0)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(fd)
	st, err := stat(fd)
	if err != nil {
		return fail(err)
	}
	if kind(st) != unix.S_IFREG {
		return fail(&notPlain{"it is not a regular file"})
	}
	text, err := slurp(fd, max)
	if err != nil {
		return fail(err)
	}
	return text, stampOf(st), nil
}

// slurp reads to the end, also of a file that grows meanwhile, but never more
// than max bytes.
func slurp(fd int, max int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(descriptor(fd), max+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(text)) > max:
		return nil, tooLarge(max)
	}
	return text, nil
}

// A descriptor is read by itself: an [os.File] would wait for more of a file that has
// some now and then, such as /proc/kmsg.
type descriptor int

func (d descriptor) Read(b []byte) (n int, err error) {
	err = retry(func() (err error) {
		n, err = unix.Read(int(d), b)
		return err
	})
	switch {
	case err != nil:
		return 0, err
	case n == 0 && len(b) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// tooLarge is an EFBIG that says how large a file may be.
type tooLarge int64

func (e tooLarge) Error() string { return fmt.Sprintf("it is larger than %d bytes", int64(e)) }
func (tooLarge) Unwrap() error   { return unix.EFBIG }

// Base is the last component of a path, for those who work on an entry of its
// directory; it is empty when the path cannot have one.
func Base(name string) string {
	if strings.HasSuffix(name, "/") {
		return ""
	}
	return path.Base(name)
}
