package stage

import "syscall"

// MaxFile is the size of an environment file that is read, in bytes.
const MaxFile = 1 << 20

// readEnvironment completes the environment: files that only the program's user
// should open, then what is known of this process alone, all of it last.
func (s *stage) readEnvironment() Failure {
	env := s.task.Env
	for _, file := range s.task.EnvFiles {
		pairs, f := readPairs(file.Path)
		if f.Errno != 0 {
			return f
		}
		env = append(append(env, pairs...), file.Pairs...)
	}
	env = append(env, s.task.Protocol...)
	s.env = Merge(append(env, s.own()...))
	return Failure{}
}

func readPairs(path string) ([]string, Failure) {
	path, optional := OptionalFile(path)
	text, err := readFile(path)
	if optional && err == syscall.ENOENT {
		return nil, Failure{}
	}
	if err != nil {
		return nil, fail(err, path)
	}
	pairs, line := ParseFile(text)
	if line > 0 {
		return nil, fail(syscall.EBADMSG, path+":"+decimal(int64(line)))
	}
	return pairs, Failure{}
}

// OptionalFile takes the "-" off a path that may be missing.
func OptionalFile(path string) (string, bool) {
	if path != "" && path[0] == '-' {
		return path[1:], true
	}
	return path, false
}

// own is what says to the program that it is meant: sd_listen_fds(3),
// sd_watchdog_enabled(3), $SYSTEMD_EXEC_PID of systemd.exec(5), and the ends of
// the pair that connections are handed over by: to receive from, and to send to.
func (s *stage) own() []string {
	pid := decimal(int64(syscall.Getpid()))
	env := []string{"SYSTEMD_EXEC_PID=" + pid}
	if n := len(s.task.Names); n > 0 {
		env = append(env, "LISTEN_PID="+pid, "LISTEN_FDS="+decimal(int64(n)), "LISTEN_FDNAMES="+join(s.task.Names))
		if id, ok := pidfdID(); ok {
			env = append(env, "LISTEN_PIDFDID="+decimal(int64(id)))
		}
	}
	if s.task.Handover {
		in := Control + len(s.task.Names)
		env = append(env, "SUPERVISORD_HANDOVER="+decimal(int64(in))+":"+decimal(int64(in+1)))
	}
	if s.task.Watchdog > 0 {
		env = append(env, "WATCHDOG_PID="+pid, "WATCHDOG_USEC="+decimal(int64(s.task.Watchdog)))
	}
	return env
}

// readFile reads a plain file, and waits for nothing that is none.
func readFile(path string) ([]byte, error) {
	fd, err := open(path, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY|syscall.O_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil, syscall.EINVAL
	}
	buf := make([]byte, MaxFile+1)
	size := 0
	for size < len(buf) {
		n, err := syscall.Read(fd, buf[size:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return buf[:size], nil
		}
		size += n
	}
	return nil, syscall.EFBIG
}

// Merge returns env with each key once, where it came first, with the value that
// came last: getenv(3) takes the first that it finds, other programs the last.
func Merge(env []string) []string {
	place := make(map[string]int, len(env))
	merged := make([]string, 0, len(env))
	for _, pair := range env {
		key := keyOf(pair)
		if i, ok := place[key]; ok {
			merged[i] = pair
			continue
		}
		place[key] = len(merged)
		merged = append(merged, pair)
	}
	return merged
}

func keyOf(pair string) string {
	for i := range len(pair) {
		if pair[i] == '=' {
			return pair[:i]
		}
	}
	return pair
}

func join(names []string) (s string) {
	for i, name := range names {
		if i > 0 {
			s += ":"
		}
		s += name
	}
	return s
}
