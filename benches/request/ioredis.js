// Makes requests with ioredis, one after another: reads the round trips of each as JSON from
// stdin, writes the milliseconds that each took. usage: ioredis.js PORT

const Redis = require("ioredis").Redis;

async function ask(redis, trip) {
  if (trip.length === 1) return redis.callBuffer(...trip[0]);
  const pipeline = redis.pipeline();
  for (const words of trip) pipeline.callBuffer(...words);
  for (const [error] of await pipeline.exec()) if (error) throw error;
}

async function main() {
  const requests = JSON.parse(require("fs").readFileSync(0));
  const redis = new Redis({ port: Number(process.argv[2]) });
  await redis.ping();
  const times = [];
  for (const trips of requests) {
    const start = performance.now();
    for (const trip of trips) await ask(redis, trip);
    times.push(performance.now() - start);
  }
  redis.disconnect();
  console.log(JSON.stringify(times));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
