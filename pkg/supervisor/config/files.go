package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

// What one reading may cost at most.
const (
	maxFile  = 1 << 20
	maxFiles = 10_000
)

// first reads the file that all begins with.
func (l *load) first(path string) {
	path = absolute(path)
	text, err := l.text(path)
	if err != nil {
		l.config.Files = []string{path}
		why := strings.TrimPrefix(err.Error(), "cannot use "+path+": ")
		if errors.Is(err, fs.ErrNotExist) {
			why = "there is no such file; name another file with -c, or create this one"
		}
		l.unreadable(false, Problem{File: path, Message: why})
		return
	}
	l.add(path, text)
}

// included reads the files that match the patterns of include.
type included struct{}

func (included) kind() string   { return strs.name }
func (included) schema() schema { return nil }

func (included) read(_ *target, c cursor) {
	l := c.file.load
	if !l.disk {
		c.wrong("nothing can be included here")
		return
	}
	each(c, func(c cursor) struct{} {
		if pattern := readText(c); pattern != "" && !l.broken {
			l.include(c, pattern)
		}
		return struct{}{}
	})
}

// include reads what matches a pattern, each file once. That a pattern matches
// nothing is no error, that a file without a * in its name is missing is one.
func (l *load) include(c cursor, pattern string) {
	path := relativeTo(c.file.dir, pattern)
	found, err := l.seen.match(path)
	if err != nil {
		c.wrong("%q is not a pattern: a [ has no ]", pattern)
		return
	}
	if len(found) == 0 && !strings.ContainsAny(pattern, "*?[") {
		c.wrong("there is no %s", path)
		return
	}
	for _, path := range found {
		switch {
		case l.broken || l.read[path]:
		case len(l.config.Files) >= maxFiles:
			c.wrong("with %q there are more than %d files", pattern, maxFiles)
			return
		default:
			l.includeFile(c, path)
		}
	}
}

func (l *load) includeFile(c cursor, path string) {
	text, err := l.text(path)
	if err != nil {
		c.wrong("%s", err.Error())
		return
	}
	l.add(path, text)
}

// text reads a file, and keeps what tells whether it is still the same later.
func (l *load) text(path string) ([]byte, error) {
	began := time.Now()
	text, stamp, err := safepath.ReadStamped(path, maxFile)
	l.seen.read(path, text, stamp, err, began)
	return text, err
}

// openToAll says whether everybody may read a file.
func openToAll(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode()&0o004 != 0
}

// secret is called where a file has something in it that not everybody should
// read: the first such place gets a warning if everybody can.
func (f *file) secret(c cursor) {
	if f.open && !f.warned {
		f.warned = true
		c.doubtful("everybody on this machine can read it here; chmod o-r %s, or keep secrets in an environment_file that is closed to others", f.name)
	}
}

// missing says why there is no such directory or program, as far as that is
// looked at. It is empty if there is.
func (l *load) missing(path string, dir bool) string {
	if !l.disk {
		return ""
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("%s does not exist", path)
	case err != nil:
		return "" // it may be there for those who may look
	case dir && !st.IsDir():
		return fmt.Sprintf("%s is not a directory", path)
	case !dir && st.IsDir():
		return fmt.Sprintf("%s is a directory", path)
	case !dir && st.Mode()&0o111 == 0:
		return fmt.Sprintf("%s is not executable", path)
	}
	return ""
}
