package logs

func disk(string) {}
func flip(string) {}
