package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// started reads main.toml of a tree as a start does, and gives problems without
// the directory.
func started(t *testing.T, dir string) (*Config, string) {
	t.Helper()
	c, problems := LoadAtStart(filepath.Join(dir, "main.toml"), Options{Root: true})
	if err := agreement(c, problems); err != nil {
		t.Error(err)
	}
	return c, said(problems, dir)
}

func said(problems []Problem, dir string) string {
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintln(&b, strings.ReplaceAll(p.String(), dir, "DIR"))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// agreement: every unit is there or set aside, never both; what is there refers to
// nothing else; and all errors are in what was left out.
func agreement(c *Config, problems []Problem) error {
	if c == nil {
		if !slices.ContainsFunc(problems, func(p Problem) bool { return !p.Warning }) {
			return fmt.Errorf("there is no configuration, and no error")
		}
		return nil
	}
	there := c.units()
	for _, s := range c.Services {
		for _, k := range s.Sockets {
			if there[k.Name+".socket"] != any(k) {
				return fmt.Errorf("%s refers to a socket %s that is not there", s.Name, k.Name)
			}
		}
	}
	left := len(c.Degraded)
	for _, a := range c.Aside {
		if there[a.String()] != nil {
			return fmt.Errorf("%s is there and set aside", a)
		}
		if len(a.Problems) == 0 {
			return fmt.Errorf("%s is set aside for nothing", a)
		}
		there[a.String()] = a
		left += len(a.Problems)
	}
	errors := 0
	for _, p := range problems {
		if !p.Warning {
			errors++
		}
	}
	if left != errors && errors <= maxDegraded {
		return fmt.Errorf("%d errors, and %d of them left something out", errors, left)
	}
	return nil
}

// names are those of what runs and of what does not.
func names(c *Config) (runs, aside string) {
	var all, left []string
	for _, s := range c.Services {
		all = append(all, s.Name)
	}
	for _, s := range c.Sockets {
		all = append(all, s.Name+".socket")
	}
	for _, a := range c.Aside {
		left = append(left, a.String())
	}
	return strings.Join(all, " "), strings.Join(left, " ")
}

// One mistake costs what it is about, and no more.
func TestAtAStartOneMistakeTakesDownOneUnit(t *testing.T) {
	const good = "[service.good]\n" + sleeper
	socket := func(name, address string) string {
		return fmt.Sprintf("[socket.%s]\nlisten_stream = [%q]\n", name, address)
	}
	service := func(name, sockets string) string {
		return fmt.Sprintf("[service.%s]\n%stype = \"notify\"\nsockets = [%s]\n", name, sleeper, sockets)
	}
	for name, c := range map[string]struct {
		files       map[string]string
		runs, aside string
		degraded    string
	}{
		"nothing is wrong": {map[string]string{"main.toml": good}, "good", "", ""},
		"an unknown key": {
			map[string]string{"main.toml": good + "[service.bad]\n" + sleeper + "foo = 1\n"}, "good", "bad", "",
		},
		"a wrong value": {
			map[string]string{"main.toml": good + "[service.bad]\n" + sleeper + "restart_sec = 5\n"}, "good", "bad", "",
		},
		"a key that is missing": {
			map[string]string{"main.toml": good + "[service.bad]\n"}, "good", "bad", "",
		},
		"a unit that is no table": {
			map[string]string{"main.toml": "service.bad = 5\n" + good}, "good", "bad", "",
		},
		"a unit that is a list of tables": {
			map[string]string{"main.toml": good + "[[service.bad]]\n" + sleeper}, "good", "bad", "",
		},
		"a socket, and what needs it": {
			map[string]string{"main.toml": good + "[socket.bad]\nlisten_stream = [\"nowhere\"]\n" + socket("fine", "1") + service("on-it", `"fine", "bad"`) + service("beside", `"fine"`)},
			"beside good fine.socket", "bad.socket on-it", "",
		},
		"a service and a socket of one name": {
			map[string]string{"main.toml": good + "[socket.bad]\n[service.bad]\n"}, "good", "bad bad.socket", "",
		},
		"a service with a socket that is not there": {
			map[string]string{"main.toml": good + service("bad", `"nowhere"`)}, "good", "bad", "",
		},
		"two sockets with one address: the later one in the text": {
			map[string]string{"main.toml": socket("z", "1") + socket("a", "1") + service("on-z", `"z"`) + service("on-a", `"a"`)},
			"on-z z.socket", "a.socket on-a", "",
		},
		"an address of a socket that has another error is free": {
			map[string]string{"main.toml": socket("z", "1") + "backlog = 0\n" + socket("a", "1")}, "a.socket", "z.socket", "",
		},
		"so are the other addresses of one that came too late": {
			map[string]string{"main.toml": socket("first", "1") + "[socket.second]\nlisten_stream = [\"2\", \"1\", \"3\"]\n" + socket("third", "2") + socket("fourth", "3")},
			"first.socket fourth.socket third.socket", "second.socket", "",
		},
		"an address twice in one socket": {
			map[string]string{"main.toml": "[socket.bad]\nlisten_stream = [\"1\", \"1\"]\n" + socket("good", "1")}, "good.socket", "bad.socket", "",
		},
		"a steered socket of two services": {
			map[string]string{"main.toml": socket("s", "127.0.0.1:1") + "steer = \"connections\"\n" + service("z", `"s"`) + service("a", `"s"`)},
			"z s.socket", "a", "",
		},
		"a steered socket of a service that has another error": {
			map[string]string{"main.toml": socket("s", "127.0.0.1:1") + "steer = \"connections\"\n" + service("z", `"s"`) + "reload = {max_surge = 2, mode = \"restart\"}\n" + service("a", `"s"`)},
			"a s.socket", "z", "",
		},
		"the address of the control socket": {
			map[string]string{"main.toml": good + socket("bad", "/run/supervisord/control.sock")}, "good", "bad.socket", "",
		},
		"a unit in two files: nobody knows which is meant": {
			map[string]string{"main.toml": "include = [\"*.toml\"]\n" + good, "a.toml": "[service.bad]\n" + sleeper, "b.toml": "[service.bad]\n" + sleeper},
			"good", "bad", "",
		},
		"an include with a syntax error": {
			map[string]string{"main.toml": "include = [\"*.toml\"]\n" + good, "a.toml": "[service.a\n", "b.toml": "[service.b]\n" + sleeper},
			"b good", "", "DIR/a.toml:1:11: syntax error: the name of a table ends with ], not the end of the line",
		},
		"what an include with a syntax error would have had": {
			map[string]string{"main.toml": "include = [\"*.toml\"]\n" + good + service("bad", `"http"`), "a.toml": socket("http", "1") + "["},
			"good", "bad", "DIR/a.toml:3:2: syntax error: the name of a table is missing or ends in a dot; write it before the ]",
		},
		"an include that is not there": {
			map[string]string{"main.toml": "include = [\"a.toml\"]\n" + good}, "good", "", "DIR/main.toml:1:12: include: there is no DIR/a.toml",
		},
		"an include that is a directory": {
			map[string]string{"main.toml": "include = [\"a.toml\"]\n" + good, "a.toml/": ""}, "good", "", "DIR/main.toml:1:12: include: cannot use DIR/a.toml: is a directory",
		},
		"an include that is no list": {
			map[string]string{"main.toml": "include = \"a.toml\"\n" + good}, "good", "", "DIR/main.toml:1:1: include: a list was expected, not a string; write include = [\"a.toml\"]",
		},
		"a table that nobody knows": {
			map[string]string{"main.toml": good + "[servcie.bad]\n" + sleeper}, "good", "", "DIR/main.toml:3:2: servcie: there is no such key; did you mean service?",
		},
		"a name that cannot be one": {
			map[string]string{"main.toml": good + "[service.\"a/b\"]\n" + sleeper}, "good", "", `DIR/main.toml:3:2: service."a/b": this cannot be a name; take 1 to 63 of A-Z a-z 0-9 _ . - and begin with a letter or digit`,
		},
		"a manager in an include": {
			map[string]string{"main.toml": "include = [\"*.toml\"]\n" + good, "a.toml": "[manager]\nlog_level = \"debug\"\n"},
			"good", "", "DIR/a.toml:1:2: manager: it belongs in DIR/main.toml, which includes this file",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, c.files)
			conf, problems := started(t, dir)
			if conf == nil {
				t.Fatal(problems)
			}
			runs, aside := names(conf)
			degraded := strings.ReplaceAll(strings.Join(conf.Degraded, "\n"), dir, "DIR")
			if runs != c.runs || aside != c.aside || degraded != c.degraded {
				t.Errorf("runs %q, aside %q, degraded %q\nwant %q, %q, %q\n%s", runs, aside, degraded, c.runs, c.aside, c.degraded, problems)
			}
			if strict, _ := (loader{Root: true}).load(t, dir); (strict == nil) != (aside+degraded != "") {
				t.Errorf("Load says %v", strict)
			}
		})
	}
}

// What is about supervisord itself, or the first file as a whole, is fatal.
func TestAtAStartWhatIsAboutSupervisordItselfIsFatal(t *testing.T) {
	const good = "[service.good]\n" + sleeper
	for name, main := range map[string]string{
		"a syntax error":                            good + "[",
		"an unknown key":                            good + "[manager]\nfoo = 1\n",
		"a wrong value":                             good + "[manager]\nlog_level = \"loud\"\n",
		"a manager that is no table":                "manager = 5\n" + good,
		"a manager with another name":               good + "[manger]\nlog_level = \"info\"\n",
		"a key of it at the top":                    "runtime_directory = \"/run/x\"\n" + good,
		"a key of it at the top, with a mistake":    "runtime_directroy = \"/run/x\"\n" + good,
		"metrics at the control socket":             good + "[manager]\nmetrics_listen = \"/run/supervisord/control.sock\"\n",
		"a directory too long for sockets":          good + "[manager]\nruntime_directory = \"/" + strings.Repeat("d", maxRuntimeDirectory) + "\"\n",
		"a syntax error, although an include is it": "include = [\"bad.toml\"]\n[service.good\n",
	} {
		c, problems := started(t, tree(t, map[string]string{"main.toml": main, "bad.toml": "["}))
		if c != nil || strings.Contains(problems, "\n") {
			t.Errorf("%s: %+v, %s", name, c, problems)
		}
	}
	if c, problems := started(t, tree(t, nil)); c != nil || problems != "DIR/main.toml: there is no such file; name another file with -c, or create this one" {
		t.Errorf("no file: %s", problems)
	}
}

// Each unit that is set aside says why and where.
func TestAsideSaysWhatIsWrong(t *testing.T) {
	dir := tree(t, map[string]string{
		"main.toml": "include = [\"*.toml\"]\n[service.api]\n" + sleeper + "type = \"notify\"\nsockets = [\"http\"]\n[service.odd]\nfoo = 1\n",
		"http.toml": "[socket.http]\nlisten_stream = [\"x\"]\nbacklog = 0\n",
	})
	c, _ := started(t, dir)
	got := ""
	for _, a := range c.Aside {
		got += a.String() + "\n" + said(a.Problems, dir) + "\n"
	}
	want := `api
DIR/main.toml:5:12: service.api.sockets: [socket.http] has an error (DIR/http.toml:2); fix that first
http.socket
DIR/http.toml:2:18: socket.http.listen_stream: "x" is neither an address nor an absolute path; write one like "127.0.0.1:8080" or "/run/x.sock"
DIR/http.toml:3:1: socket.http.backlog: 0 is out of range; it can be from 1 to 2147483647
odd
DIR/main.toml:6:2: service.odd: exec_start is missing; write what to run, like exec_start = ["/srv/api/api"]
DIR/main.toml:7:1: service.odd.foo: there is no such key; see docs/reference/configuration.md for those there are
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What is kept of mistakes that are about no unit has an end.
func TestAtAStartManyMistakesAreCounted(t *testing.T) {
	c, problems := started(t, tree(t, map[string]string{"main.toml": filled(1000, func(i int) string { return fmt.Sprintf("[x%d]\n", i) })}))
	if c == nil {
		t.Fatal(problems)
	}
	last, more := c.Degraded[len(c.Degraded)-1], strings.Count(problems, "\n")+1-maxDegraded
	if len(c.Degraded) != maxDegraded+1 || last != fmt.Sprintf("%d more errors; to see them: superctl verify", more) {
		t.Errorf("%d lines, the last is %q", len(c.Degraded), last)
	}
}
