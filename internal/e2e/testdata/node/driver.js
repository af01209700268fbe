'use strict';
// driver.js HOST KEYSPACE RF ROWS: creates, prepares, writes, pages and reads; the last line says what happened.
const cassandra = require('cassandra-driver');

const [host, keyspace, rf, rows] = [process.argv[2], process.argv[3], Number(process.argv[4]), Number(process.argv[5])];

function check(row, want) {
  if (want !== undefined && (row === null || row.id !== want)) throw new Error(`asked for ${want}, got ${row && row.id}`);
  if (row.v !== `value ${row.id}`) throw new Error(`row ${row.id} is ${row.v}`);
}

async function main() {
  const client = new cassandra.Client({
    contactPoints: [host],
    localDataCenter: 'datacenter1',
    policies: { loadBalancing: new cassandra.policies.loadBalancing.TokenAwarePolicy(
      new cassandra.policies.loadBalancing.DCAwareRoundRobinPolicy('datacenter1')) },
    socketOptions: { readTimeout: 20000 },
  });
  await client.connect();
  await client.execute(`CREATE KEYSPACE ${keyspace} WITH replication = {'class': 'SimpleStrategy', 'replication_factor': ${rf}}`);
  await client.execute(`CREATE TABLE ${keyspace}.t (id int PRIMARY KEY, v text)`);
  await new Promise((resolve) => setTimeout(resolve, 1500)); // pools to every node are open by then

  const insert = `INSERT INTO ${keyspace}.t (id, v) VALUES (?, ?)`;
  const values = Array.from({ length: rows }, (_, i) => [i, `value ${i}`]);
  await cassandra.concurrent.executeConcurrent(client, insert, values, { prepare: true, concurrencyLevel: 64 });

  let pages = 0;
  let paged = 0;
  let pageState;
  do {
    const page = await client.execute(`SELECT id, v FROM ${keyspace}.t`, [], { prepare: true, fetchSize: 100, pageState });
    if (page.rows.length > 100) throw new Error(`a page of ${page.rows.length} rows`);
    page.rows.forEach((row) => check(row));
    pages += 1;
    paged += page.rows.length;
    pageState = page.pageState;
  } while (pageState);

  const select = `SELECT id, v FROM ${keyspace}.t WHERE id = ?`;
  let read = 0;
  for (let i = 0; i < rows; i += 1) {
    const result = await client.execute(select, [i], { prepare: true });
    check(result.first(), i);
    read += 1;
  }
  const connected = client.getState().getConnectedHosts().length;
  console.log(JSON.stringify({ nodes: connected, written: rows, paged, pages, read, version: `V${client.controlConnection.protocolVersion}` }));
  await client.shutdown();
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
