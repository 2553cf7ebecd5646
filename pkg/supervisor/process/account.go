package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// An Account is whom a program runs as.
type Account struct {
	UID, GID uint32
	Groups   []uint32 // supplementary ones
	Name     string   // empty, as Home and Shell, if the number has no entry
	Home     string
	Shell    string
	Set      bool // it was configured, and is not simply ours: the process must change ids
}

// ResolveAccount looks up the user and group of a program: in /etc/passwd and
// /etc/group, and what is not there by getent(1), which asks whatever nsswitch.conf(5)
// names (sssd, LDAP). Nothing that cannot be looked up falls back to anything,
// least of all to our own account. It waits for getent until ctx ends, and no
// longer than five seconds a question. The error is a *StartError.
func ResolveAccount(ctx context.Context, p *unit.Program) (Account, error) {
	return (&directory{ask: askGetent, local: localGroups}).resolve(ctx, p)
}

// ResolveOwner looks up whom a file is to belong to, by the rules of [ResolveAccount].
// An empty name is -1, which chown(2) takes for "leave it". It waits for getent until ctx
// ends, and no longer than five seconds for each of the two. The error is a *StartError.
func ResolveOwner(ctx context.Context, user, group string) (uid, gid int, err error) {
	return (&directory{ask: askGetent, local: localGroups}).owner(ctx, user, group)
}

func (d *directory) owner(ctx context.Context, user, group string) (uid, gid int, err error) {
	uid, gid = -1, -1
	if user != "" {
		id, err := d.userID(ctx, user)
		if err != nil {
			return -1, -1, accountError(stepUser, "user", user, err)
		}
		uid = int(id)
	}
	if group != "" {
		id, err := d.group(ctx, group)
		if err != nil {
			return -1, -1, accountError(stepGroup, "group", group, err)
		}
		gid = int(id)
	}
	return uid, gid, nil
}

func (d *directory) resolve(ctx context.Context, p *unit.Program) (Account, error) {
	a := Account{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	if p.User == "" && p.Group == "" {
		return a, nil
	}
	if p.User != "" {
		if err := d.setUser(ctx, &a, p.User, p.Group != ""); err != nil {
			return Account{}, accountError(stepUser, "user", p.User, err)
		}
	}
	if p.Group != "" {
		gid, err := d.group(ctx, p.Group)
		if err != nil {
			return Account{}, accountError(stepGroup, "group", p.Group, err)
		}
		a.GID = gid
	}
	if !slices.Contains(a.Groups, a.GID) {
		a.Groups = append(a.Groups, a.GID)
	}
	// As root it is done also if it changes nothing but supplementary groups.
	a.Set = os.Geteuid() == 0 || a.UID != uint32(os.Geteuid()) || a.GID != uint32(os.Getegid())
	if err := a.allowed(p); err != nil {
		return Account{}, err
	}
	return a, nil
}

// allowed is the error that a process would have which may not become a. It comes
// before anything is made that is to be the account's.
func (a Account) allowed(p *unit.Program) error {
	switch {
	case !a.Set:
	case a.UID != uint32(os.Geteuid()) && !capable(unix.CAP_SETUID):
		return stepUser.failed(syscall.EPERM, p.User, "")
	case !capable(unix.CAP_SETGID): // also for the supplementary groups
		return stepGroup.failed(syscall.EPERM, cmp.Or(p.Group, p.User), "")
	}
	return nil
}

// capable says whether we have a capability (capabilities(7)); yes where the kernel does
// not tell.
func capable(capability int) bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if unix.Capget(&head, &sets[0]) != nil {
		return true
	}
	return sets[capability/32].Effective&(1<<(capability%32)) != 0
}

// database is where getent(1) looks for a user or a group.
var database = map[string]string{"user": "passwd", "group": "group"}

func accountError(s step, what, name string, err error) *StartError {
	e := s.failed(0, fmt.Sprintf("cannot use %s %q: %v", what, name, err), "")
	var asked *getentError
	switch {
	case errors.Is(err, errNoGetent):
		e.hint = "give a numeric user and group; users of a directory (LDAP, sssd) need getent(1), which is not installed"
	case errors.Is(err, errUnknown):
		e.hint = "give a numeric user and group"
	case errors.As(err, &asked):
		e.hint = "a numeric user and group need no directory: getent " + database[what] + " " + name
	}
	return e
}

var (
	errUnknown  = errors.New("it cannot be looked up in /etc/passwd or /etc/group, nor by getent")
	errNoGetent = errors.New("it cannot be looked up in /etc/passwd or /etc/group")
	errName     = errors.New("it is neither a name nor a decimal number from 0 to 4294967294 other than 65535")
	errNoGroup  = errors.New("it has no entry in /etc/passwd, so the group must be given as well")
)

// names are those that useradd(8) lets pass, and digits after the first place.
var names = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,63}\$?$`) })

// ParseID reads a user or group id. Those that setresuid(2) and chown(2) take for
// "leave it as it is" are none, in 32 bits and in 16.
func ParseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 1<<32-1 || n == 1<<16-1 || strconv.FormatUint(n, 10) != s {
		return 0, errName
	}
	return uint32(n), nil
}

// setUser asks a directory about a number only if its group is to come from there.
func (d *directory) setUser(ctx context.Context, a *Account, name string, groupGiven bool) error {
	uid, err := ParseID(name)
	numeric := err == nil
	if !numeric && !names().MatchString(name) {
		return errName
	}
	u, err := localUser(name)
	if errors.Is(err, errUnknown) && !(numeric && groupGiven) {
		u, err = d.user(ctx, name)
	}
	switch {
	case numeric && groupGiven && err != nil:
		a.UID = uid
		return nil
	case numeric && (errors.Is(err, errUnknown) || errors.Is(err, errNoGetent)):
		return errNoGroup
	case err != nil:
		return err
	}
	a.UID, a.GID, a.Name, a.Home, a.Shell = u.uid, u.gid, u.name, u.home, u.shell
	if u.local {
		a.Groups, err = localGroups(u)
	} else {
		a.Groups, err = d.groups(ctx, u)
	}
	if err != nil {
		return fmt.Errorf("its groups cannot be looked up: %w", err)
	}
	return nil
}

func (d *directory) userID(ctx context.Context, name string) (uint32, error) {
	if uid, err := ParseID(name); err == nil {
		return uid, nil
	}
	if !names().MatchString(name) {
		return 0, errName
	}
	u, err := localUser(name)
	if errors.Is(err, errUnknown) {
		u, err = d.user(ctx, name)
	}
	return u.uid, err
}

func (d *directory) group(ctx context.Context, name string) (uint32, error) {
	if gid, err := ParseID(name); err == nil {
		return gid, nil
	}
	if !names().MatchString(name) {
		return 0, errName
	}
	gid, err := localGroup(name)
	if errors.Is(err, errUnknown) {
		return d.groupID(ctx, name)
	}
	return gid, err
}
