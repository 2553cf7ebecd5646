package worker

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"reflect"
)

// check finds what a user has done wrong, all of it at once.
func (g *Group) check() error {
	var wrong []error
	if len(g.services) == 0 {
		wrong = append(wrong, errors.New("the group has no service"))
	}
	if g.Drain < 0 {
		wrong = append(wrong, fmt.Errorf("the group's Drain is %v", g.Drain))
	}
	servers := make(map[*http.Server]bool)
	var listeners []net.Listener
	for _, s := range g.services {
		wrong = append(wrong, s.checkProtocol(servers), s.checkListeners(&listeners))
	}
	return errors.Join(wrong...)
}

func (s *service) checkProtocol(known map[*http.Server]bool) error {
	switch p := s.protocol.(type) {
	case *httpProtocol:
		return checkServer(p.srv, known)
	case connProtocol:
		if p.handler == nil {
			return errors.New("the handler of Conns is nil")
		}
	}
	return nil
}

func checkServer(srv *http.Server, known map[*http.Server]bool) error {
	if srv == nil {
		return errors.New("the *http.Server is nil")
	}
	if known[srv] {
		return errors.New("the same *http.Server was added twice: one call takes all its listeners")
	}
	known[srv] = true
	if _, used := srv.Handler.(*httpProtocol); used {
		return errors.New("the *http.Server has been served before")
	}
	return nil
}

func (s *service) checkListeners(known *[]net.Listener) error {
	if s.listeners != nil && len(s.listeners) == 0 {
		return errors.New("a service was added with an empty list of listeners")
	}
	for _, l := range s.listeners {
		if isNil(l) {
			return errors.New("a listener is nil")
		}
		for _, k := range *known {
			if same(k, l) {
				return fmt.Errorf("the listener %s was added twice", l.Addr())
			}
		}
		*known = append(*known, l)
	}
	return nil
}

func isNil(l net.Listener) bool {
	v := reflect.ValueOf(l)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}

// same reports whether two listeners are one. Some cannot be compared.
func same(a, b net.Listener) bool {
	return reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}
