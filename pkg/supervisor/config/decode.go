package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync"

	"github.com/BurntSushi/toml"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A load is one reading of a configuration.
type load struct {
	o        Options
	disk     bool // look at files, users and groups
	atStart  bool // a unit with an error is set aside
	config   *Config
	problems []Problem
	errors   map[owner][]Problem // those that are no warnings
	broken   bool                // a syntax error: nothing else is said
	digest   hash.Hash
	seen     *snapshot

	sockets     map[string]*socket
	socketNames []string // sorted, when all are known
	services    map[string]*service
	manager     cursor
	accounts    accounts
	hints       int             // that were looked for
	read        map[string]bool // names of files
}

// A file is one of those that a configuration is in.
type file struct {
	load   *load
	name   string // as it is to be shown
	number int    // in the order of reading
	dir    string // absolute: what relative paths in it are relative to
	open   bool   // others may read it
	warned bool
	places places
}

// A socket is a socket unit that is being read.
type socket struct {
	unit.Socket
	from                cursor
	set                 set
	mode                int
	ipv6Only, steer     string
	unasked             bool // it is steered by default
	receiveBuf, sendBuf int64
	instances           int // of the service that has it, if each has its own
}

// A service is a service that is being read.
type service struct {
	unit.Spec
	from        cursor
	set         set
	start, mode string
	sockets     []string // names of socket units
	forward     forwards
	prefix      bool
}

// A set has the keys that were written, by their names from the unit's table on:
// restart_sec, reload.bake.
type set map[string]cursor

func (s set) has(name string) bool {
	_, ok := s[name]
	return ok
}

func newLoad(o Options) *load {
	return &load{
		o: o, config: &Config{Manager: byDefault().manager}, digest: sha256.New(),
		sockets: map[string]*socket{}, services: map[string]*service{}, read: map[string]bool{}, accounts: accounts{},
		errors: map[owner][]Problem{}, seen: newSnapshot(),
	}
}

// finish is what Load, LoadAtStart and Decode return.
func (l *load) finish() (*Config, []Problem) {
	if !l.broken {
		l.complete()
	}
	problems := inOrder(l.problems, l.config.Files)
	if l.refused() {
		return nil, problems
	}
	l.config.Digest = hex.EncodeToString(l.digest.Sum(nil))
	if l.disk {
		l.config.seen = l.seen
	}
	return l.config, problems
}

// problem notes what is wrong at c.
func (f *file) problem(c cursor, warning bool, message string) {
	if f.load.broken {
		return
	}
	at := c.place()
	f.load.note(c.of, Problem{f.name, at.line, at.col, c.key, brief(message), warning})
}

func (l *load) note(of owner, p Problem) {
	l.problems = append(l.problems, p)
	if !p.Warning {
		l.errors[of] = append(l.errors[of], p)
	}
}

// add reads the text of a file. The first one may have more in it than others.
func (l *load) add(name string, text []byte) {
	f := &file{load: l, name: name, number: len(l.config.Files), dir: dirOf(name), open: l.disk && openToAll(name)}
	main := f.number == 0
	if main {
		l.config.Path = absolute(name)
		l.manager = cursor{file: f, of: itself}.child("manager", nil)
	}
	l.config.Files = append(l.config.Files, name)
	l.read[name] = true
	fmt.Fprintf(l.digest, "%q %d\n", name, len(text))
	l.digest.Write(text)
	top, ok := f.parse(string(text))
	if !ok {
		return
	}
	f.top(cursor{file: f, value: top}, top, main)
}

// top reads what stands outside of all units, and the tables of units.
func (f *file) top(c cursor, table map[string]any, main bool) {
	for _, c := range c.sorted(table) {
		switch name := c.name; {
		case name == "socket":
			f.units(c, f.socket)
		case name == "service":
			f.units(c, f.service)
		case !main && (name == "manager" || name == "include"):
			c.wrong("it belongs in %s, which includes this file", f.load.config.Files[0])
		case name == "manager":
			c.of = itself
			f.load.manager = c
			f.keys(c, "manager", "", &target{m: &f.load.config.Manager}, nil)
		case name == "include":
			keysOf("")["include"].is.read(&target{}, c)
		default:
			if main && meansManager(name) {
				c.of = itself
			}
			f.unknown(c, "")
		}
	}
}

// units reads all tables of one kind.
func (f *file) units(c cursor, read func(name string, c cursor)) {
	table, ok := c.value.(map[string]any)
	if !ok {
		c.wrong("a table was expected, not %s; write [%s.NAME] and its keys below it", noun(c.value), c.name)
		return
	}
	kind := c.name
	for _, c := range c.sorted(table) {
		name := c.name
		if why := badName(name); why != "" {
			c.wrong("%s", why)
			continue
		}
		c.of = owner{kind, name}
		if _, ok := c.value.(map[string]any); !ok {
			c.wrong("a table was expected, not %s; write [%s] and its keys below it", noun(c.value), c.key)
			c.value = nil
		}
		read(name, c)
	}
}

func badName(name string) string {
	for _, suffix := range []string{".socket", ".service"} {
		if stem, ok := strings.CutSuffix(name, suffix); ok {
			return fmt.Sprintf("the table says already what kind of unit it is; call it %q", stem)
		}
	}
	if !unit.IsName(name) {
		return "this cannot be a name; take 1 to 63 of A-Z a-z 0-9 _ . - and begin with a letter or digit"
	}
	return ""
}

func (f *file) socket(name string, c cursor) {
	if old := f.load.sockets[name]; old != nil {
		c.wrong("it is already defined at %s; a unit belongs in one file", old.from.where())
		return
	}
	s := byDefault().socket
	s.Name, s.from, s.set = name, c, set{}
	f.load.sockets[name] = &s
	f.keys(c, "socket", "", &target{s: &s}, s.set)
}

func (f *file) service(name string, c cursor) {
	if old := f.load.services[name]; old != nil {
		c.wrong("it is already defined at %s; a unit belongs in one file", old.from.where())
		return
	}
	s := byDefault().service
	s.Name, s.from, s.set = name, c, set{}
	f.load.services[name] = &s
	f.keys(c, "service", "", &target{u: &s}, s.set)
}

// keys reads a table with the keys of one kind of it. What was written it notes
// in seen, with prefix before it.
func (f *file) keys(c cursor, kind, prefix string, t *target, seen set) {
	table, ok := c.value.(map[string]any)
	if !ok && c.value != nil {
		c.wrong("a table was expected, not %s; write [%s] and its keys below it", noun(c.value), c.key)
	}
	known := keysOf(kind)
	for _, c := range c.sorted(table) {
		name := c.name
		k := known[name]
		switch sub := kind + "." + name; {
		case k == nil && slices.Contains(below(kind), sub):
			f.keys(c, sub, name+".", t, seen)
		case k == nil:
			if near := f.unknown(c, kind); near != "" && !seen.has(prefix+near) && seen != nil {
				seen[prefix+near] = c // it is not missing as well
			}
		case k.is == nil:
			c.wrong("this key is not supported yet; leave it out")
		default:
			if seen != nil {
				seen[prefix+name] = c
			}
			k.is.read(t, c)
		}
	}
}

// unknown says of a key what could have been meant: a similar one, or the same
// of another table. It returns the similar one.
func (f *file) unknown(c cursor, kind string) (near string) {
	name := c.name
	if near = f.load.closest(name, wordsOf(kind)); near != "" {
		if strings.EqualFold(near, name) {
			c.wrong("there is no such key; case matters: %s", near)
		} else {
			c.wrong("there is no such key; did you mean %s?", near)
		}
		return near
	}
	for _, k := range keys {
		directive := strings.TrimSuffix(k.like, "=")
		switch {
		case k.in == kind && strings.EqualFold(directive, name):
			c.wrong("there is no such key; systemd's %s is %s here", directive, k.name)
		case k.in == "manager" && bare(k.name) == bare(name):
			c.wrong("a %s has no such key; %s is supervisord's own, in [manager]", kindOf(kind), k.name)
		case k.in != "" && bare(k.name) == bare(name):
			c.wrong("there is no such key here; %s belongs in [%s]", k.name, within(k.in))
		default:
			continue
		}
		return ""
	}
	c.wrong("there is no such key; see docs/reference/configuration.md for those there are")
	return ""
}

// bare is a name as systemd and we both would write it: RuntimeDirectory,
// runtime_directory.
func bare(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name))
}

// kindOf is what a kind of table is about.
func kindOf(kind string) string {
	first, _, _ := strings.Cut(kind, ".")
	return cmp.Or(first, "file")
}

// within is a kind of table as one writes it.
func within(kind string) string {
	first, rest, _ := strings.Cut(kind, ".")
	switch {
	case first == "manager":
		return kind
	case rest == "":
		return first + ".NAME"
	}
	return first + ".NAME." + rest
}

// index has the keys of each kind of table, by name.
var index = sync.OnceValue(func() map[string]map[string]*key {
	all := map[string]map[string]*key{}
	for i := range keys {
		k := &keys[i]
		if all[k.in] == nil {
			all[k.in] = map[string]*key{}
		}
		all[k.in][k.name] = k
	}
	return all
})

// parsed is a value of the key table. A test holds it to being one.
func parsed(value string) any {
	var v struct{ X any }
	toml.Decode("X = "+value, &v)
	return v.X
}

// byDefault has what is written nowhere, as far as that depends on nothing else.
// Units begin as copies of it.
var byDefault = sync.OnceValue(func() (all struct {
	manager Manager
	socket  socket
	service service
},
) {
	t := &target{&all.manager, &all.socket, &all.service}
	nowhere := &file{load: &load{}, places: places{}}
	for _, k := range keys {
		if k.in != "" && k.def != "" {
			k.is.read(t, cursor{file: nowhere, key: k.name, value: parsed(k.def)})
		}
	}
	return all
})

func keysOf(kind string) map[string]*key { return index()[kind] }

// below are the tables in a table.
func below(kind string) []string {
	if kind == "service" {
		return []string{"service.reload", "service.log"}
	}
	return nil
}

// wordsOf are the names that can stand in a table, in the order of keys.
func wordsOf(kind string) (words []string) {
	if kind == "" {
		words = []string{"manager", "socket", "service"}
	}
	for _, k := range keys {
		if k.in == kind {
			words = append(words, k.name)
		}
	}
	for _, sub := range below(kind) {
		words = append(words, strings.TrimPrefix(sub, kind+"."))
	}
	return words
}
