// Command differ compares Helenus with a running Apache Cassandra over the corpus, or over random scripts, and rewrites
// the golden files:
//
//	go run ./internal/e2e/differ/cmd -cassandra 127.0.0.11:9042 -helenus 127.0.0.1:9042 [-file types] corpus
//	go run ./internal/e2e/differ/cmd -cassandra ... -rewrite corpus       ask Cassandra and write the golden files
//	go run ./internal/e2e/differ/cmd -helenus ... golden                  compare with the golden files
//	go run ./internal/e2e/differ/cmd -helenus ... -rewrite golden         record what differs on purpose (@differs)
//	go run ./internal/e2e/differ/cmd -cassandra ... -helenus ... -seed 1 -runs 100 random
//
// It uses keyspaces that start with diff_ only, and drops them. Statements of the corpus that change anything else
// (system tables, roles) go to Helenus only.
package main
