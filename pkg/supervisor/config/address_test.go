package config

import (
	"fmt"
	"strings"
	"testing"
)

// What anybody could read is not served by oversight.
func TestAddressOfMetrics(t *testing.T) {
	for value, want := range map[string]string{
		`"127.0.0.1:9475"`:                "",
		`"127.0.0.1:0"`:                   "",
		`"[::1]:9475"`:                    "",
		`"/run/metrics.sock"`:             "",
		`"9475"`:                          `"9475" would serve them to all networks; write "127.0.0.1:9475", or "0.0.0.0:9475" if that is intended`,
		`":9475"`:                         `":9475" would serve them to all networks`,
		`"0.0.0.0:9475"`:                  `warning: manager.metrics_listen: anyone who can reach 0.0.0.0:9475 can read`,
		`"[::]:9475"`:                     `warning: manager.metrics_listen: anyone who can reach [::]:9475 can read`,
		`"@metrics"`:                      `"@metrics" can be connected to by everybody on this machine`,
		`"127.0.0.1:{instance}1"`:         `has {instance} in it`,
		`"localhost:9475"`:                `has a host name`,
		`"127.0.0.1"`:                     `has no port`,
		`""`:                              `an address cannot be empty`,
		`9475`:                            `9475 is a number`,
		`["127.0.0.1:9475"]`:              `a string was expected, not a list`,
		`"127.0.0.1:80"`:                  `127.0.0.1:80 cannot be bound together with 127.0.0.1:80 of manager.metrics_listen (x.toml:2)`,
		`"0.0.0.0:80"`:                    `127.0.0.1:80 cannot be bound together with 0.0.0.0:80 of manager.metrics_listen (x.toml:2)`,
		`"/run/supervisord/control.sock"`: `/run/supervisord/control.sock cannot be bound together with /run/supervisord/control.sock of manager.runtime_directory`,
		`"/run/http.sock"`:                `/run/http.sock cannot be bound together with /run/http.sock of manager.metrics_listen`,
	} {
		text := fmt.Sprintf("[manager]\nmetrics_listen = %s\n[socket.http]\nlisten_stream = [\"127.0.0.1:80\", \"/run/http.sock\"]\n", value)
		_, problems := Decode("x.toml", []byte(text), Options{Root: true})
		said := ""
		for _, p := range problems {
			said += p.String() + "\n"
		}
		if want == "" && said != "" || !strings.Contains(said, want) {
			t.Errorf("%s: %q, want %q", value, said, want)
		}
	}
}

// What supervisord listens on itself needs no [manager] to be in the way.
func TestControlSocketIsTaken(t *testing.T) {
	_, problems := Decode("/x.toml", []byte("[socket.a]\nlisten_stream = [\"/run/supervisord/control.sock\"]\n"), Options{Root: true})
	want := "/x.toml:2:18: socket.a.listen_stream: /run/supervisord/control.sock cannot be bound together with /run/supervisord/control.sock of manager.runtime_directory (/x.toml:1)"
	if len(problems) != 1 || problems[0].String() != want {
		t.Error(problems)
	}
}
