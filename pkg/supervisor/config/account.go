package config

import (
	"os/user"
	"regexp"
	"strconv"
	"sync"
)

// Names of users and groups, as useradd(8) lets them pass. Those that are numbers
// must be ones that setresuid(2) does not take for "leave it as it is", in 32
// bits or 16, and must be written in one way only.
var accountName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,63}\$?$`) })

var (
	anyUser  = kind[string]{name: "user", read: func(c cursor) string { return readAccount(c, "user") }}
	anyGroup = kind[string]{name: "group", read: func(c cursor) string { return readAccount(c, "group") }}
	noGroup  = kind[string]{name: "group, or empty", read: func(c cursor) string {
		switch c.value {
		case "":
			return ""
		case "nobody", "nogroup", "65534": // whoever is unknown in a user namespace
			c.wrong("%s is the group of every unknown user in a container; write a group that has members, or \"\" for none", show(c.value))
			return ""
		}
		return readAccount(c, "group")
	}}
)

// readAccount reads a name or an id. Nothing that is not there falls back to
// anything: a wrong name that ran as root would be the worst of all.
func readAccount(c cursor, what string) string {
	if n, ok := c.value.(int64); ok {
		c.wrong("%d is a number; write the id as a string: \"%d\"", n, n)
		return ""
	}
	s := readText(c)
	switch {
	case c.value == "":
		c.wrong("it is empty; write a name or a decimal id, or leave it out")
	case s == "" || isID(s):
	case !accountName().MatchString(s):
		c.wrong("%s is not a %s; write a name, or a decimal id from 0 to 4294967294 other than 65535", show(s), what)
	case !c.file.load.knows(what, s) && whenNeeded(c) != "":
		c.doubtful("%s %s is not in /etc/%s; getent is asked for it %s, which fails if it is unknown there too", what, s, database[what], whenNeeded(c))
	case !c.file.load.knows(what, s):
		c.wrong("there is no %s %s in /etc/%s; write another, or a decimal id", what, s, database[what])
	}
	return s
}

var database = map[string]string{"user": "passwd", "group": "group"}

// whenNeeded says when an account is looked up again, and everywhere; "": never. Those
// of a service and of a socket are.
func whenNeeded(c cursor) string {
	return map[string]string{"service": "at each start", "socket": "each time the socket is bound"}[c.of.kind]
}

func isID(s string) bool {
	n, err := strconv.ParseUint(s, 10, 32)
	return err == nil && n != 1<<32-1 && n != 1<<16-1 && strconv.FormatUint(n, 10) == s
}

// accounts are those that were looked up: a thousand services may have one user.
type accounts map[[2]string]bool

func (l *load) knows(what, name string) bool {
	if !l.disk {
		return true
	}
	k := [2]string{what, name}
	known, asked := l.accounts[k]
	if !asked {
		known = exists(what, name)
		l.accounts[k] = known
	}
	return known
}

func exists(what, name string) bool {
	look := func() (err error) { _, err = user.LookupGroup(name); return err }
	switch {
	case what == "user" && isID(name):
		look = func() (err error) { _, err = user.LookupId(name); return err }
	case what == "user":
		look = func() (err error) { _, err = user.Lookup(name); return err }
	}
	return look() == nil
}
