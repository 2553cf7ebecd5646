package process

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// The local files are read here and not by os/user, which knows no shell, and in
// a build with cgo waits for directories without a deadline.

// A passwd is a line of passwd(5).
type passwd struct {
	name, home, shell string
	uid, gid          uint32
	local             bool // it is in /etc/passwd
}

// Files of accounts that are larger are not read: nobody waits for them.
const maxAccounts = 64 << 20

func localUser(name string) (passwd, error) {
	uid, err := ParseID(name)
	numeric := err == nil
	return findLine("/etc/passwd", func(line string) (passwd, bool) {
		u, err := parsePasswd(line)
		u.local = true
		return u, err == nil && (u.name == name || numeric && u.uid == uid)
	})
}

func localGroup(name string) (uint32, error) {
	return findLine("/etc/group", func(line string) (uint32, bool) {
		g, err := parseGroup(line)
		return g.gid, err == nil && g.name == name
	})
}

// localGroups are a user's own group and all that list it, as initgroups(3) says.
func localGroups(u passwd) ([]uint32, error) {
	gids := []uint32{u.gid}
	_, err := findLine("/etc/group", func(line string) (none struct{}, found bool) {
		g, err := parseGroup(line)
		if err == nil && slices.Contains(g.members, u.name) && !slices.Contains(gids, g.gid) {
			gids = append(gids, g.gid)
		}
		return none, false
	})
	if errors.Is(err, errUnknown) {
		err = nil
	}
	return gids, err
}

// findLine returns what the first line that is taken stands for; errUnknown if
// there is none, or no such file.
func findLine[T any](path string, take func(line string) (T, bool)) (none T, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return none, errUnknown
	}
	if err != nil {
		return none, fmt.Errorf("cannot read %s: %w", path, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxAccounts))
	if err != nil {
		return none, fmt.Errorf("cannot read %s: %w", path, err)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := take(strings.TrimSuffix(line, "\n")); ok {
			return v, nil
		}
	}
	return none, errUnknown
}

var errLine = errors.New("it is no line of an account")

func parsePasswd(line string) (u passwd, err error) {
	f := strings.Split(line, ":")
	if len(f) != 7 || f[0] == "" || strings.ContainsFunc(line, isControl) {
		return passwd{}, errLine
	}
	u.name, u.home, u.shell = f[0], f[5], cmp.Or(f[6], "/bin/sh")
	if u.uid, err = ParseID(f[2]); err == nil {
		u.gid, err = ParseID(f[3])
	}
	return u, err
}

type group struct {
	name    string
	gid     uint32
	members []string
}

func parseGroup(line string) (g group, err error) {
	f := strings.Split(line, ":")
	if len(f) != 4 || f[0] == "" || strings.ContainsFunc(line, isControl) {
		return group{}, errLine
	}
	g.name, g.members = f[0], strings.Split(f[3], ",")
	g.gid, err = ParseID(f[2])
	return g, err
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
