package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// maxSunPath is sun_path of unix(7) without its NUL.
const maxSunPath = 107

var addresses = kind[[]unit.Address]{name: "list of addresses", read: func(c cursor) []unit.Address {
	all := each(c, readAddress)
	if list, ok := c.value.([]any); ok && len(list) == 0 {
		c.wrong("it is empty; write where to listen, like [\"127.0.0.1:8080\"]")
	}
	return all
}}

func readAddress(c cursor) unit.Address {
	if n, ok := c.value.(int64); ok {
		c.wrong("%d is a number; write \"%d\" for that port on all addresses, or \"127.0.0.1:%d\"", n, n, n)
		return unit.Address{}
	}
	s := readText(c)
	if s == "" {
		if _, ok := c.value.(string); ok {
			c.wrong("an address cannot be empty; write one like \"127.0.0.1:8080\"")
		}
		return unit.Address{}
	}
	a, why := parseAddress(s)
	if why != "" {
		c.wrong("%q %s", s, why)
		return unit.Address{} // of which nothing else is said
	}
	return a
}

// metricsAddress is an address of which nobody can say that he did not know who
// may connect.
var metricsAddress = kind[unit.Address]{name: "address", read: func(c cursor) unit.Address {
	a := readAddress(c)
	ip, err := netip.ParseAddr(a.Host)
	why := ""
	switch {
	case a.PerInstance():
		why = fmt.Sprintf("has %s in it, which stands for an instance of a service; write one address", unit.Placeholder)
	case strings.HasPrefix(a.Path, "@"):
		why = `can be connected to by everybody on this machine; write a path, like "/run/supervisord/metrics.sock"`
	case a.Network == "tcp" && err != nil:
		why = fmt.Sprintf("would serve them to all networks; write \"127.0.0.1:%d\", or \"0.0.0.0:%d\" if that is intended", a.Port, a.Port)
	case a.Network == "tcp" && !ip.IsLoopback():
		c.doubtful("anyone who can reach %s can read names, states and addresses of all services; write \"127.0.0.1:%d\" if only a proxy or an agent on this machine asks", a, a.Port)
	}
	if why != "" {
		c.wrong("%s %s", show(c.value), why)
		return unit.Address{}
	}
	return a
}}

// parseAddress says why s is none, if so: as the end of a sentence.
func parseAddress(s string) (unit.Address, string) {
	switch {
	case strings.ContainsRune(s, '/') && s[0] != '/' && s[0] != '@':
		return unit.Address{}, neither(s)
	case s[0] == '/' || s[0] == '@':
		return parseUnix(s)
	case strings.Trim(strings.ReplaceAll(s, unit.Placeholder, ""), "0123456789") == "":
		return parseTCP("", s)
	}
	i := strings.LastIndexByte(s, ':')
	if ip, err := netip.ParseAddr(s); err == nil && !isIP(s[:max(i, 0)]) {
		return unit.Address{}, fmt.Sprintf("has no port; write one, like \"%s\"", netip.AddrPortFrom(ip, 8080))
	}
	if i < 0 {
		return unit.Address{}, neither(s)
	}
	return parseTCP(s[:i], s[i+1:])
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// neither says what could have been meant by what is neither an address nor an
// absolute path.
func neither(s string) string {
	switch {
	case s == "localhost":
		return `has no port; write one, like "127.0.0.1:8080"`
	case strings.HasSuffix(s, ".sock"), strings.Contains(s, "/"):
		return fmt.Sprintf("is a relative path; write an absolute one, like %q", filepath.Join("/run", filepath.Join("/", s)))
	}
	return fmt.Sprintf(`is neither an address nor an absolute path; write one like "127.0.0.1:8080" or "/run/%s.sock"`, s)
}

func parseUnix(s string) (unit.Address, string) {
	a := unit.Address{Network: "unix", Path: s}
	switch {
	case len(s) > maxSunPath:
		return a, fmt.Sprintf("has %d bytes; a unix socket's path has at most %d", len(s), maxSunPath)
	case s == "@":
		return a, `has no name after the @; write one, like "@api"`
	case s[0] == '/' && s != filepath.Clean(s):
		return a, fmt.Sprintf("is not the shortest way to say it; write %q", filepath.Clean(s))
	case s == "/":
		return a, `is a directory; write a file, like "/run/api.sock"`
	}
	return a, ""
}

func parseTCP(host, port string) (unit.Address, string) {
	a := unit.Address{Network: "tcp"}
	n, err := strconv.ParseUint(strings.ReplaceAll(port, unit.Placeholder, "0"), 10, 16)
	if err != nil {
		return a, "has no port from 0 to 65535 at its end"
	}
	if a.Port = int(n); strings.Contains(port, unit.Placeholder) {
		a.Port, a.PortOf = 0, port
	}
	if host == "" {
		return a, ""
	}
	bare, bracketed := strings.CutPrefix(host, "[")
	bare, closed := strings.CutSuffix(bare, "]")
	ip, err := netip.ParseAddr(bare)
	switch {
	case err != nil && bare == "*":
		return a, fmt.Sprintf("has a *; write %q for all addresses", port)
	case bare == "localhost":
		return a, fmt.Sprintf(`has a host name; write the address: "127.0.0.1:%[1]s" or "[::1]:%[1]s"`, port)
	case err != nil:
		return a, fmt.Sprintf(`does not begin with an IP address; write one, like "127.0.0.1:%s" or "[::1]:%s"`, port, port)
	case ip.Zone() != "":
		return a, "has a zone, which cannot be used here; leave out the % and what follows"
	case ip.Is6() && !(bracketed && closed):
		return a, fmt.Sprintf(`needs brackets around the IPv6 address: "[%s]:%s"`, bare, port)
	case ip.Is4() && (bracketed || closed):
		return a, fmt.Sprintf(`has brackets around an IPv4 address; write "%s:%s"`, bare, port)
	}
	a.Host = ip.Unmap().String()
	return a, ""
}

// fdName follows sd_listen_fds_with_names(3).
var fdName = kind[string]{name: "name", read: func(c cursor) string {
	s := readText(c)
	bad := func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }
	if _, ok := c.value.(string); ok && (s == "" || len(s) > 255 || strings.ContainsFunc(s, bad)) {
		c.wrong("%s cannot be the name of a file descriptor; use 1 to 255 letters, digits and punctuation, without spaces or colons", show(s))
	}
	return s
}}
