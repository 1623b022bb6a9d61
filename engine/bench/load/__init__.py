"""The load generator: closed and open loops on bare uvloop protocols, which watch themselves.

    target = Target.of("http://127.0.0.1:8000/v1", key=key)
    prompts = Prompts(Task("llama", messages=({"role": "user", "content": "Translate …"},), max_tokens=128))
    async with closed(target, prompts, users=20, stagger_s=2.0) as run:
        await asyncio.sleep(warm_up_s)
        begin = time.perf_counter()
        await asyncio.sleep(window_s)
        end = time.perf_counter()
        window = run.samples.between(begin, end)
        watch = run.watch(begin, end)
        run.stop()
        await run.drain(timeout_s=60)

All times are seconds of time.perf_counter(). Run it under uvloop: asyncio's own loop makes a third of the requests.
"""
