package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A directory is whatever else than the local files knows accounts. What it says
// is not believed blindly: it answers what was asked or nothing, in one line, and
// it makes nobody root.
type directory struct {
	// ask returns what getent(1) prints for a key of a database; errUnknown if it
	// has none, errNoGetent if there is no such program.
	ask func(ctx context.Context, database, key string) (string, error)
	// local are the groups that the local files have a user in.
	local func(passwd) ([]uint32, error)
}

var (
	errAnswer = errors.New("getent answers something else than was asked")
	errRoot   = errors.New("a directory says that it has root's number; only /etc/passwd and /etc/group may")
	errRoots  = errors.New("a directory says that it is in root's group; only /etc/group may")
)

func (d *directory) user(ctx context.Context, name string) (passwd, error) {
	line, err := d.line(ctx, "passwd", name)
	if err != nil {
		return passwd{}, err
	}
	u, err := parsePasswd(line)
	uid, numeric := ParseID(name)
	switch {
	case err != nil, u.name != name && (numeric != nil || u.uid != uid), !names().MatchString(u.name):
		return passwd{}, errAnswer
	case u.uid == 0 || u.gid == 0:
		return passwd{}, errRoot
	}
	if !filepath.IsAbs(u.home) {
		u.home = ""
	}
	return u, nil
}

func (d *directory) groupID(ctx context.Context, name string) (uint32, error) {
	line, err := d.line(ctx, "group", name)
	if err != nil {
		return 0, err
	}
	g, err := parseGroup(line)
	switch {
	case err != nil, g.name != name:
		return 0, errAnswer
	case g.gid == 0:
		return 0, errRoot
	}
	return g.gid, nil
}

// groups asks for "NAME GID GID …", blanks between them. What the local files say is
// among them.
func (d *directory) groups(ctx context.Context, u passwd) ([]uint32, error) {
	line, err := d.line(ctx, "initgroups", u.name)
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(line)
	if len(fields) == 0 || fields[0] != u.name {
		return nil, errAnswer
	}
	gids := []uint32{u.gid}
	for _, f := range fields[1:] {
		gid, err := ParseID(f)
		switch {
		case err != nil:
			return nil, errAnswer
		case gid == 0 && !d.inRootsGroup(u):
			return nil, errRoots
		case !slices.Contains(gids, gid):
			gids = append(gids, gid)
		}
	}
	return gids, nil
}

// inRootsGroup says whether /etc/group has a user of a directory in root's group.
func (d *directory) inRootsGroup(u passwd) bool {
	gids, err := d.local(u)
	return err == nil && slices.Contains(gids, 0)
}

// line is an answer of one line.
func (d *directory) line(ctx context.Context, database, key string) (string, error) {
	text, err := d.ask(ctx, database, key)
	if err != nil {
		return "", err
	}
	line, rest, whole := strings.Cut(text, "\n")
	if !whole || rest != "" {
		return "", errAnswer
	}
	return line, nil
}

const (
	getentTimeout = 5 * time.Second
	getentAtOnce  = 8
	maxAnswer     = 1 << 20 // a group may have many members
)

// getents is for those that run at once: a directory that does not answer holds
// up whoever asks it, and not the machine.
var getents = make(chan struct{}, getentAtOnce)

// A getentError is getent's own failure.
type getentError struct{ err error }

func (e *getentError) Error() string {
	switch {
	case errors.Is(e.err, context.DeadlineExceeded):
		return "getent does not answer"
	case errors.Is(e.err, context.Canceled):
		return "getent is not waited for any longer"
	}
	return "getent fails: " + e.err.Error()
}

func (e *getentError) Unwrap() error { return e.err }

func askGetent(ctx context.Context, database, key string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, getentTimeout)
	defer cancel()
	path := findGetent()
	if path == "" {
		return "", errNoGetent
	}
	select {
	case getents <- struct{}{}:
	case <-ctx.Done():
		return "", &getentError{ctx.Err()}
	}
	text, exit, err := runGetent(ctx, []string{path, database, key}, func() { <-getents })
	const notFound = 2 // "one or more supplied key could not be found in the database"
	switch {
	case ctx.Err() != nil:
		return "", &getentError{ctx.Err()}
	case err != nil:
		return "", &getentError{err}
	case exit == unit.Exit{Kind: unit.ByStatus, Code: notFound}:
		return "", errUnknown
	case exit != unit.Exit{Kind: unit.ByStatus}:
		return "", &getentError{errors.New(how(exit))}
	}
	return text, nil
}

// getentPath is where getent is looked for by root, who runs nothing by a PATH
// that somebody else may have set.
const getentPath = "/usr/bin:/bin:/usr/sbin:/sbin:/run/current-system/sw/bin"

func findGetent() string {
	path := getentPath
	if os.Geteuid() != 0 {
		path = os.Getenv("PATH")
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, "getent")
		if st, err := os.Stat(file); filepath.IsAbs(file) && err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return file
		}
	}
	return ""
}

// runGetent runs it until ctx ends: in a process group of its own, so that no key
// of a terminal ends it, and in our session, so that no reaper takes it for an
// orphan. The key begins with a letter or a digit. gone is called when nothing is left
// of it, which may be later: one that waits for a disk cannot even be killed.
func runGetent(ctx context.Context, argv []string, gone func()) (string, unit.Exit, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		gone()
		return "", unit.Exit{}, err
	}
	unix.SetNonblock(pipe[0], true) // the flag is each end's own
	r := os.NewFile(uintptr(pipe[0]), "getent")
	defer r.Close()
	p, pid, err := startGetent(argv, pipe[1])
	unix.Close(pipe[1])
	if err != nil {
		gone()
		return "", unit.Exit{}, err
	}
	ended := make(chan unit.Exit, 1)
	go func() {
		defer gone()
		ended <- exitOf(p.status(false))
		own.reaped(pid)
		p.close()
	}()
	defer context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Unix(1, 0)) })()
	text, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	switch {
	case ctx.Err() != nil:
		err = ctx.Err() // and not of the deadline by which it ends the read
	case len(text) > maxAnswer:
		err = fmt.Errorf("it says more than %d bytes", maxAnswer)
	}
	if err != nil {
		p.signal(unix.SIGKILL)
		return "", unit.Exit{}, err
	}
	select {
	case exit := <-ended:
		return string(text), exit, nil
	case <-ctx.Done():
		p.signal(unix.SIGKILL)
		return "", unit.Exit{}, ctx.Err()
	}
}

// startGetent starts it with the write end as its output.
func startGetent(argv []string, output int) (p *pidfd, pid int, err error) {
	null, err := openHigh("/dev/null", unix.O_RDWR)
	if err != nil {
		return nil, 0, err
	}
	defer unix.Close(null)
	fd := -1
	own.begin()
	pid, _, err = syscall.StartProcess(argv[0], argv, &syscall.ProcAttr{
		Dir: "/", Env: []string{"PATH=" + getentPath, "LC_ALL=C"},
		Files: []uintptr{uintptr(null), uintptr(output), uintptr(null)},
		Sys:   &syscall.SysProcAttr{Setpgid: true, PidFD: &fd},
	})
	if err != nil {
		pid = 0
	}
	own.end(pid) // its end brings the reaper's next look
	if err != nil {
		return nil, 0, err
	}
	if p, err = newPidfd(fd); err != nil {
		p.discard()
		own.reaped(pid)
		return nil, 0, err
	}
	return p, pid, nil
}
