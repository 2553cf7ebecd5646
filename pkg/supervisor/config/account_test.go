package config

import (
	"fmt"
	"strings"
	"testing"
)

// T28: a user that is wrong is an error, but for one that may be known elsewhere
// when a service starts. Each of these once ran a service as
// root, somewhere: as a number that a C library made of it, as 2^32-1, which
// setresuid(2) takes for "no change", or because a name was not found.
func TestUsersThatAreNone(t *testing.T) {
	for _, name := range []string{
		"0day", "0x0", "0o0", "-1", "+1", "4294967295", "4294967296", "18446744073709551616", "65535", " root", "root ", "root\n", "\troot",
		"", "00", "007", "1e3", "1.5", "root:root", "root;", "-root", ".root", "a b", "röot", "root\u0000", "ldap/user", "nobody-is-called-this",
	} {
		for _, key := range []string{"user", "group", "socket_user", "socket_group", "read_group", "admin_group"} {
			table := map[string]string{"u": "service.a", "g": "service.a", "s": "socket.a", "r": "manager", "a": "manager"}[key[:1]]
			if name == "" && table == "manager" {
				continue // no group at all
			}
			text := fmt.Sprintf("[%s]\n%s = %s\n", table, key, literal(name))
			dir := tree(t, map[string]string{"main.toml": text})
			_, problems := Load(dir+"/main.toml", Options{Root: true})
			atStart := name == "nobody-is-called-this" && table != "manager"
			wrong := 0
			for _, p := range problems {
				if p.Warning == atStart && p.Key == table+"."+key {
					wrong++
				}
			}
			if wrong != 1 {
				t.Errorf("%s = %q: %v", key, name, problems)
			}
		}
	}
}

func TestUsersThatAre(t *testing.T) {
	for _, name := range []string{"root", "0", "1", "1000", "65534", "65536", "4294967294", "nobody"} {
		text := fmt.Sprintf("[service.a]\n%suser = %q\ngroup = \"0\"\n", sleeper, name)
		dir := tree(t, map[string]string{"main.toml": text})
		c, problems := Load(dir+"/main.toml", Options{Root: true})
		if c == nil || len(problems) > 0 || c.Services[0].Program.User != name {
			t.Errorf("user = %q: %v", name, problems)
		}
	}
}

// Users of a directory service are in no file: whether one is known shows when the
// service starts, or a socket is bound. What a group of supervisord is called must be in
// one.
func TestUserThatOnlyGetentMayKnowIsAWarning(t *testing.T) {
	socket := "[socket.s]\nlisten_stream = [\"/run/s.sock\"]\n"
	for text, want := range map[string]string{
		"[service.a]\n" + sleeper + "user = \"ldapuser\"\n":                 "DIR/main.toml:3:1: warning: service.a.user: user ldapuser is not in /etc/passwd; getent is asked for it at each start, which fails if it is unknown there too",
		"[service.a]\n" + sleeper + "user = \"0\"\ngroup = \"ldapgroup\"\n": "DIR/main.toml:4:1: warning: service.a.group: group ldapgroup is not in /etc/group; getent is asked for it at each start, which fails if it is unknown there too",
		"[service.a]\n" + sleeper + "user = \"70001\"\n":                    "DIR/main.toml:3:1: warning: service.a.user: 70001 is not in /etc/passwd, which would name its group; getent is asked for it at each start; write group as well if it is unknown there too",
		socket + "socket_user = \"ldapuser\"\n":                             "DIR/main.toml:3:1: warning: socket.s.socket_user: user ldapuser is not in /etc/passwd; getent is asked for it each time the socket is bound, which fails if it is unknown there too",
		socket + "socket_group = \"ldapgroup\"\n":                           "DIR/main.toml:3:1: warning: socket.s.socket_group: group ldapgroup is not in /etc/group; getent is asked for it each time the socket is bound, which fails if it is unknown there too",
		"[manager]\nread_group = \"ldapgroup\"\n":                           "DIR/main.toml:2:1: manager.read_group: there is no group ldapgroup in /etc/group; write another, or a decimal id",
	} {
		c, problems := loader{Root: true}.load(t, tree(t, map[string]string{"main.toml": text}))
		if problems != want || (c == nil) == strings.Contains(want, "warning") {
			t.Errorf("%v", problems)
		}
	}
}

// Only root runs a program as somebody else: said before it fails.
func TestUserNeedsRoot(t *testing.T) {
	_, problems := Decode("/x.toml", []byte("[service.a]\n"+sleeper+"user = \"nobody\"\ngroup = \"nogroup\"\n"), Options{})
	if len(problems) != 1 || !problems[0].Warning || problems[0].Key != "service.a.user" {
		t.Error(problems)
	}
}
