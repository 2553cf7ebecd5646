package process

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"sync"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/stage"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// An Account is whom a program runs as.
type Account struct {
	UID, GID uint32
	Groups   []uint32 // supplementary ones
	Name     string   // empty, as Home and Shell, if the number has no entry
	Home     string
	Shell    string
	Set      bool // it was configured, and is not simply ours: the stage must change ids
}

// ResolveAccount looks up the user and group of a program. Nothing that cannot be
// looked up falls back to anything, least of all to our own account. The error
// is a *StartError.
func ResolveAccount(p *unit.Program) (Account, error) {
	a := Account{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	if p.User == "" && p.Group == "" {
		return a, nil
	}
	if p.User != "" {
		if err := a.setUser(p.User, p.Group != ""); err != nil {
			return Account{}, accountError(stage.User, "user", p.User, err)
		}
	}
	if p.Group != "" {
		gid, err := lookupGroup(p.Group)
		if err != nil {
			return Account{}, accountError(stage.Group, "group", p.Group, err)
		}
		a.GID = gid
	}
	if !slices.Contains(a.Groups, a.GID) {
		a.Groups = append(a.Groups, a.GID)
	}
	// As root it is done also if it changes nothing but supplementary groups.
	a.Set = os.Geteuid() == 0 || a.UID != uint32(os.Geteuid()) || a.GID != uint32(os.Getegid())
	return a, nil
}

func accountError(step stage.Step, what, name string, err error) *StartError {
	e := startError(step, 0, fmt.Sprintf("cannot use %s %q: %v", what, name, err), "")
	if errors.Is(err, errUnknown) {
		e.hint = "give a numeric user and group"
	}
	return e
}

var (
	errUnknown = errors.New("it cannot be looked up in /etc/passwd or /etc/group")
	errName    = errors.New("it is neither a name nor a decimal number from 0 to 4294967294 other than 65535")
	errNoGroup = errors.New("it has no entry in /etc/passwd, so the group must be given as well")
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

func (a *Account) setUser(name string, groupGiven bool) error {
	u, err := lookupUser(name)
	if err != nil {
		return err
	}
	if a.UID, err = ParseID(u.Uid); err != nil {
		return err
	}
	if u.Username == "" { // a number without an entry
		if !groupGiven {
			return errNoGroup
		}
		return nil
	}
	a.Name, a.Home, a.Shell = u.Username, u.HomeDir, shellOf(u.Username)
	if a.GID, err = ParseID(u.Gid); err != nil {
		return err
	}
	return a.setGroups(u)
}

func (a *Account) setGroups(u *user.User) error {
	ids, err := u.GroupIds()
	if err != nil {
		return fmt.Errorf("its groups cannot be looked up: %w", err)
	}
	for _, id := range ids {
		gid, err := ParseID(id)
		if err != nil {
			return fmt.Errorf("its group %s: %w", id, err)
		}
		a.Groups = append(a.Groups, gid)
	}
	return nil
}

func lookupUser(name string) (*user.User, error) {
	if uid, err := ParseID(name); err == nil {
		u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
		if err != nil {
			return &user.User{Uid: name}, nil
		}
		return u, nil
	}
	if !names().MatchString(name) {
		return nil, errName
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, errUnknown
	}
	return u, nil
}

func lookupGroup(name string) (uint32, error) {
	if gid, err := ParseID(name); err == nil {
		return gid, nil
	}
	if !names().MatchString(name) {
		return 0, errName
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, errUnknown
	}
	return ParseID(g.Gid)
}
