package config

import (
	"fmt"
	"testing"
)

// T28: a user that is wrong is an error. Each of these once ran a service as
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
			wrong := 0
			for _, p := range problems {
				if !p.Warning && p.Key == table+"."+key {
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

func TestUnknownUserSaysWhatToDo(t *testing.T) {
	dir := tree(t, map[string]string{"main.toml": "[service.a]\n" + sleeper + "user = \"ldapuser\"\n"})
	_, problems := loader{Root: true}.load(t, dir)
	if want := "DIR/main.toml:3:1: service.a.user: there is no user ldapuser in /etc/passwd; write another, or numbers for user and group"; problems != want {
		t.Error(problems)
	}
}

// Only root runs a program as somebody else: said before it fails.
func TestUserNeedsRoot(t *testing.T) {
	_, problems := Decode("/x.toml", []byte("[service.a]\n"+sleeper+"user = \"nobody\"\ngroup = \"nogroup\"\n"), Options{})
	if len(problems) != 1 || !problems[0].Warning || problems[0].Key != "service.a.user" {
		t.Error(problems)
	}
}
