package socket

import (
	"fmt"
	"strings"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A Made is what a socket was made with and only a new one can change. It never
// changes.
type Made struct {
	FreeBind   bool  `json:",omitempty"`
	IPv6Only   *bool `json:",omitempty"`
	ReceiveBuf int   `json:",omitempty"` // a buffer that was set cannot be given back to the kernel
	SendBuf    int   `json:",omitempty"`
}

func madeOf(s *unit.Socket) *Made {
	return &Made{FreeBind: s.FreeBind, IPv6Only: s.IPv6Only, ReceiveBuf: s.ReceiveBuf, SendBuf: s.SendBuf}
}

// tuned is m after the options of s were set.
func (m *Made) tuned(s *unit.Socket) *Made {
	is := *m
	is.ReceiveBuf, is.SendBuf = max(s.ReceiveBuf, m.ReceiveBuf), max(s.SendBuf, m.SendBuf)
	return &is
}

// waits lists the keys of s, as they are now, that the socket does not have.
func (m *Made) waits(s *unit.Socket, a unit.Address) (keys []string) {
	differs := func(is bool, key string, value any) {
		if is {
			keys = append(keys, fmt.Sprintf("%s = %v", key, value))
		}
	}
	if a.Network != "unix" {
		differs(m.FreeBind != s.FreeBind, "free_bind", s.FreeBind)
		differs(!sameBool(m.IPv6Only, s.IPv6Only), "bind_ipv6_only", only(s.IPv6Only))
	}
	differs(m.ReceiveBuf > 0 && s.ReceiveBuf == 0, "receive_buffer", "(the kernel's)")
	differs(m.SendBuf > 0 && s.SendBuf == 0, "send_buffer", "(the kernel's)")
	return keys
}

func sameBool(a, b *bool) bool { return a == b || a != nil && b != nil && *a == *b }

func only(v *bool) string {
	switch {
	case v == nil:
		return `"default"`
	case *v:
		return `"ipv6-only"`
	}
	return `"both"`
}

// until says what keys wait for.
func until(keys []string, when string) string {
	verb := "waits"
	if len(keys) > 1 {
		verb = "wait"
	}
	return fmt.Sprintf("%s %s until %s", strings.Join(keys, " and "), verb, when)
}

const (
	whenIdle   = "no process has the socket: restart its services, or stop them"
	whenClosed = "it can be bound anew: no process has it, and clients are refused"
)
