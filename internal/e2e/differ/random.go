package differ

// RandomRun is filled in below.
func RandomRun(cassandra, helenus *Server, seed int64, statements int) (string, error) {
	return "", nil
}
