package config

import (
	"fmt"
	"strings"
	"testing"
)

// services is a configuration of n services: with a thousand it is still to be fast.
func services(n int) []byte {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `
[socket.web%[1]d]
listen_stream = ["127.0.0.1:%[2]d", "/run/web%[1]d.sock"]
socket_mode = "0660"

[service.web%[1]d]
exec_start = ["/srv/web/web", "-config", "/etc/web%[1]d.toml"]
type = "notify"
sockets = ["web%[1]d"]
timeout_stop_sec = "30s"
environment = { NUMBER = "%[1]d", NAME = "web" }
limit_nofile = "65536:infinity"

[service.web%[1]d.reload]
bake = "2s"

[service.web%[1]d.log]
max_size = "16M"
`, i, 10_000+i)
	}
	return []byte(b.String())
}

func BenchmarkThousandServices(b *testing.B) {
	text := services(1000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if c, problems := Decode("x.toml", text, Options{Root: true}); c == nil {
			b.Fatal(problems)
		}
	}
}

// filled repeats what piece says for 0, 1, 2 … until there are size bytes.
func filled(size int, piece func(i int) string) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		b.WriteString(piece(i))
	}
	return b.String()
}

// hostile are texts of a size that a reading could spend its life on.
func hostile(size int) map[string]string {
	each := func(format string) string {
		return filled(size, func(i int) string { return strings.ReplaceAll(format, "%d", fmt.Sprint(i)) })
	}
	service := "[service.a]\nexec_start = \"/a\"\n"
	return map[string]string{
		"unknown keys":           service + each("restart_sec%dxx = 1\n"),
		"unknown tables":         each("[servicr.a%d]\n"),
		"empty services":         each("[service.a%d]\n"),
		"one port, many sockets": each("[socket.a%d]\nlisten_stream = [\"1\"]\n"),
		"one address, often":     "[socket.a]\nlisten_stream = [" + each(`"127.0.0.1:1",`) + "]",
		"any port, often":        "[socket.a]\nlisten_stream = [" + each(`"127.0.0.1:0",`) + "]",
		"one port, many hosts": "[socket.a]\nlisten_stream = [" + filled(size, func(i int) string {
			return fmt.Sprintf(`"127.%d.%d.%d:1",`, i>>16, i>>8&255, i&255)
		}) + "]",
		"tables in a list": each("[[a]]\n"),
		"sockets that are not there": filled(size/2, func(i int) string {
			return fmt.Sprintf("[socket.a%dxxxx]\nlisten_stream = [\"%d\"]\n", i, i%65536)
		}) + service + "sockets = [" + filled(size/2, func(i int) string { return fmt.Sprintf(`"b%dxxx",`, i) }) + "]",
		"a long string":       "[service.a]\nexec_start = \"" + strings.Repeat("a", size) + `"`,
		"a long name":         "[service." + strings.Repeat("a", size) + "]",
		"a long inline table": "a = { " + each("b%d = 1, ") + "}",
		"lists in lists":      "a = " + strings.Repeat("[", size),
		"tables in tables":    "a = " + strings.Repeat("{a=", size/3),
		"parts of a key":      strings.Repeat("a.", size/2) + "a = 1",
		"a long duration":     service + "restart_sec = \"" + strings.Repeat("1s ", size/3) + `"`,
		"many variables":      service + "environment = [" + each(`"A%d=",`) + "]",
		"no signals":          service + "success_exit_status = [" + each(`"SIGX%d",`) + "]",
		"many lines":          "a = '''" + strings.Repeat("\n", size) + "'''",
		"an error at the end": strings.Repeat("\n", size) + "\xff",
	}
}

// What a hostile file costs grows with its size, not with the square of that:
// with 1 MiB, the most that a file may have, any of these took minutes once, and
// with this still seconds.
func TestHostileFilesEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for name, text := range hostile(32 << 10) {
		t.Run(name, func(t *testing.T) {
			_, problems := Decode("x.toml", []byte(text), Options{})
			_, started := decodeAtStart([]byte(text), Options{})
			for _, p := range append(problems, started...) {
				if len(p.String()) > 2000 {
					t.Fatalf("a message of %d bytes", len(p.String()))
				}
			}
		})
	}
}
