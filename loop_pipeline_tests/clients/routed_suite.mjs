// What JavaScript clients see of the student's answers at BASE_URL: printed as JSON.
import OpenAI from 'openai';
import Anthropic from '@anthropic-ai/sdk';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, streamText } from 'ai';

const base = process.env.BASE_URL;
const prompt = 'What is the weather in Lisbon?';
const messages = [{ role: 'user', content: prompt }];
const asked = { model: 'scripted', messages };
const seen = {};

const client = new OpenAI({ baseURL: base, apiKey: 'none' });
const whole = await client.chat.completions.create(asked);
seen.openai = [whole.id.slice(0, 9), whole.choices[0].message.content, whole.usage.total_tokens];
const options = { stream_options: { include_usage: true }, stream: true };
const stream = await client.chat.completions.create({ ...asked, ...options });
let text = '', usage = null, end = null, id = '';
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? '';
  end = chunk.choices[0]?.finish_reason ?? end;
  usage = chunk.usage?.total_tokens ?? usage;
  id = chunk.id;
}
seen['openai streamed'] = [id.slice(0, 9), text, end, usage];
const helper = client.chat.completions.stream(asked);
seen['openai helper'] = await helper.finalContent();

const model = createOpenAICompatible({ name: 'x', baseURL: base, apiKey: 'none' })('scripted');
const made = await generateText({ model, prompt });
seen.ai = [made.text, made.finishReason, made.usage.totalTokens];
const streamed = streamText({ model, prompt });
text = '';
for await (const word of streamed.textStream) text += word;
seen['ai streamed'] = [text, await streamed.finishReason];

const anthropic = new Anthropic({ baseURL: base.replace(/\/v1$/, ''), apiKey: 'none' });
const said = await anthropic.messages.create({ ...asked, max_tokens: 100 });
seen.anthropic = [said.content[0].text, said.stop_reason, said.usage.output_tokens];
const final = await anthropic.messages.stream({ ...asked, max_tokens: 100 }).finalMessage();
seen['anthropic streamed'] = [final.content[0].text, final.stop_reason];

console.log(JSON.stringify(seen));
