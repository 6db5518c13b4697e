// How JavaScript clients take streams that break, at BASE_URL: printed as JSON.
import OpenAI from 'openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { streamText } from 'ai';

const base = process.env.BASE_URL;
const cases = process.env.CASES.split(',');
const client = new OpenAI({ baseURL: base, apiKey: 'none', maxRetries: 0 });
const compatible = createOpenAICompatible({ name: 'x', baseURL: base, apiKey: 'none' });
const asked = (prompt) => ({ model: 'm', messages: [{ role: 'user', content: prompt }] });

const asks = {
  openai_js: async (prompt) => {
    const stream = await client.chat.completions.create({ ...asked(prompt), stream: true });
    let text = '';
    for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? '';
    return text;
  },
  openai_js_helper: (prompt) => client.chat.completions.stream(asked(prompt)).finalContent(),
  ai: async (prompt) => {
    const stream = streamText({ model: compatible('m'), prompt, maxRetries: 0, onError() {} });
    let text = '';
    for await (const part of stream.fullStream) {
      if (part.type === 'error') throw part.error;
      if (part.type === 'text-delta') text += part.text;
    }
    return text;
  },
};
const leaving = {
  openai_js: async (prompt) => {
    const stream = await client.chat.completions.create({ ...asked(prompt), stream: true });
    for await (const _ of stream) break;
    return 'left';
  },
  ai: async (prompt) => {
    const stop = new AbortController();
    const abortSignal = stop.signal;
    const stream = streamText({ model: compatible('m'), prompt, abortSignal, onError() {} });
    for await (const _ of stream.textStream) break;
    stop.abort();
    return 'left';
  },
};

const found = {};
const running = [];
for (const [name, ask] of Object.entries(cases[0] === 'leaves' ? leaving : asks)) {
  for (const prompt of cases) {
    const told = ask(prompt).then(
      (text) => (found[`${name}: ${prompt}`] = ['whole', text]),
      (error) => (found[`${name}: ${prompt}`] = ['raised', error?.name ?? typeof error]),
    );
    running.push(told);
  }
}
await Promise.all(running);
console.log(JSON.stringify(found));
process.exit(0);
