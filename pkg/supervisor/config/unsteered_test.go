package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

const noBPF = "steering needs CAP_BPF: run supervisord as root, or give it that capability"

const canary = `[socket.http]
listen_stream = ["127.0.0.1:8080", "/run/http.sock"]
steer = "connections"
[socket.local]
listen_stream = ["/run/local.sock"]
steer = "connections"
[service.api]
exec_start = ["/srv/api/api"]
type = "notify"
sockets = ["http", "local"]
[service.api.reload]
canary = "5%"
`

// problemsOf are the problems in a text, without those that every supervisord has with
// it.
func problemsOf(t *testing.T, text string, o Options) (*Config, string) {
	t.Helper()
	c, problems := Decode("/x.toml", []byte(text), o)
	var own []string
	for _, p := range problems {
		if !strings.Contains(p.String(), "a unix socket cannot be steered") {
			own = append(own, p.String()+"\n")
		}
	}
	return c, strings.Join(own, "")
}

// Where steering is not to be had, a service runs on a shared socket, and who reads the
// warnings knows why, and what does not work.
func TestSteeringIsAWish(t *testing.T) {
	c, problems := problemsOf(t, canary, Options{Root: true, Unsteerable: noBPF})
	const want = `/x.toml:3:1: warning: socket.http.steer: shared, as if it were "off": ` + noBPF + `
/x.toml:12:1: warning: service.api.reload.canary: 5% is not possible: [socket.http] is shared, so a new process gets connections like the others as soon as it accepts them
`
	if d := cmp.Diff(want, problems); d != "" || c == nil {
		t.Fatal(d)
	}
	http, api := c.Sockets[0], c.Services[0]
	if http.Steer || http.Unsteered != noBPF || api.Life.Steer || api.Life.Canary != 5 {
		t.Errorf("%+v, %+v", http, api.Life)
	}
	if s := c.Sockets[1]; s.Unsteered != "" {
		t.Errorf("a unix socket is shared anywhere, and not for want of rights: %+v", s)
	}
	if got := api.Sockets[0].Unsteered; got != noBPF {
		t.Errorf("its build does not know: %q", got)
	}
}

// A check says what it cannot do itself, and leaves open what supervisord can.
func TestACheckClaimsNoMoreThanItKnows(t *testing.T) {
	c, problems := problemsOf(t, canary, Options{Root: true, Unsteerable: noBPF, Check: true})
	const want = `/x.toml:3:1: warning: socket.http.steer: where supervisord can do no more than this check, all processes share it: ` + noBPF + `
/x.toml:12:1: warning: service.api.reload.canary: 5% is not possible where [socket.http] cannot be steered: a new process then gets connections like the others as soon as it accepts them
`
	if d := cmp.Diff(want, problems); d != "" || c == nil {
		t.Fatal(d)
	}
	if http := c.Sockets[0]; !http.Steer || http.Unsteered != "" || !c.Services[0].Life.Steer {
		t.Errorf("%+v", http)
	}
	if _, problems := problemsOf(t, canary, Options{Root: true, Check: true}); problems != "" {
		t.Errorf("it can be steered, and yet: %s", problems)
	}
}

// What is an error is one on every machine, whatever supervisord may do there.
func TestErrorsOfSteeringDependOnNoRights(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"[service.api]", "[service.b]\nexec_start = [\"/b\"]\ntype = \"notify\"\nsockets = [\"http\"]\n[service.api]", "is for one service only"},
		{"[service.api.reload]", "instances = 1000\n[service.api.reload]\nmax_draining = 100", "which 1023 processes can be"},
		{`"127.0.0.1:8080", `, "", "only steered sockets can give a process a share"},
	} {
		text := strings.Replace(canary, c.from, c.to, 1)
		for _, o := range []Options{{}, {Unsteerable: noBPF}, {Unsteerable: noBPF, Check: true}} {
			if got, problems := problemsOf(t, text, o); got != nil || !strings.Contains(problems, c.want) {
				t.Errorf("%s, unsteerable %q: %s", c.want, o.Unsteerable, problems)
			}
		}
	}
}

// 1,023 processes can be steered, and not one more.
func TestCrowd(t *testing.T) {
	text := canary + "max_draining = 1000\n"
	for instances, right := range map[string]bool{"22": true, "23": false} {
		_, problems := problemsOf(t, strings.Replace(text, "[service.api.reload]", "instances = "+instances+"\n[service.api.reload]", 1), Options{})
		if (problems == "") != right {
			t.Errorf("%s instances: %q", instances, problems)
		}
	}
	if n := Crowd(unit.Life{Surge: 2, MaxDraining: 8}, 3); n != 13 {
		t.Errorf("%d", n)
	}
}

// Who says nothing has each socket steered that is all for one process, as far as that is
// possible, and hears nothing of it where it is not.
func TestSteeredByDefault(t *testing.T) {
	const services = `
[service.one]
exec_start = ["/bin/true"]
type = "notify"
sockets = ["one", "off", "local", "both"]
[service.two]
exec_start = ["/bin/true"]
type = "notify"
sockets = ["two", "both"]
instances = 2
[service.canary]
exec_start = ["/bin/true"]
type = "notify"
sockets = ["canary"]
instances = 2
[service.canary.reload]
canary = "5%"
[service.crowd]
exec_start = ["/bin/true"]
type = "notify"
sockets = ["crowd"]
[service.crowd.reload]
max_draining = 1000
max_surge = 30
`
	text := ""
	for i, name := range []string{"one", "off", "both", "two", "canary", "crowd", "nobody"} {
		text += fmt.Sprintf("[socket.%s]\nlisten_stream = [\"127.0.0.1:%d\"]\n", name, 8000+i)
	}
	text = strings.Replace(text, ":8001\"]", ":8001\"]\nsteer = \"off\"", 1)
	text += "[socket.local]\nlisten_stream = [\"/run/local.sock\"]\n" + services
	steered := func(o Options) (names []string, problems string) {
		o.Root = true
		c, problems := problemsOf(t, text, o)
		if c == nil {
			t.Fatal(problems)
		}
		for _, s := range c.Sockets {
			if s.Steer {
				names = append(names, s.Name)
			}
		}
		return names, problems
	}
	for _, o := range []Options{{}, {Check: true}} {
		if names, problems := steered(o); !slices.Equal(names, []string{"canary", "one"}) || problems != "" {
			t.Errorf("%v are steered; %s", names, problems)
		}
	}
	names, problems := steered(Options{Unsteerable: noBPF})
	if len(names) > 0 || strings.Count(problems, "\n") != 2 || !strings.Contains(problems, "socket.canary.listen_stream: shared") {
		t.Errorf("without the capability %v are steered, and who asked for a canary is told\n%s", names, problems)
	}
}
