"""Short texts that describe no task, by kind, and some that do, as people write them in a hurry.

Written for this package; a text network's familiarity is fitted to one half and calibrated on the
other. No text of it is trained on.
"""

_QUESTIONS = """
Who painted the ceiling of the chapel?
What time does the last bus leave?
Why is the sea salty?
How tall is the tower in the old town?
When was the printing press invented?
Where can I park near the museum?
Which of the two roads is shorter?
Did you see my keys anywhere?
How many people live in Norway?
Is it going to rain tomorrow?
What is the boiling point of ethanol?
Who won the match last night?
Are there any seats left for Friday?
How long does it take to boil an egg?
Why did the company close its second plant?
Whose umbrella is this?
What does the red light on the router mean?
When do the shops open on Sunday?
Can penguins fly?
Which planet has the most moons?
How do vaccines work?
Where were you on the night of the storm?
What is the difference between a crow and a raven?
Who is the mayor of Lyon?
How old is the universe?
Does this train stop at Ghent?
Why are flamingos pink?
What happened to the second ship?
How far is it from Lima to Quito?
Which king signed the treaty of 1648?
Would you like some more tea?
What is the name of your dog?
"""
_CODE = """
for i in range(10): print(i)
SELECT name, price FROM items WHERE price > 20 ORDER BY name;
git commit -am "fix the build"
const total = items.reduce((sum, item) => sum + item.price, 0);
#include <stdio.h>
def area(r): return 3.14159 * r ** 2
sudo apt-get install -y build-essential
public static void main(String[] args) { System.out.println("Hi"); }
{"id": 7, "name": "valve", "open": false}
<div class="card"><h2>Title</h2></div>
fn add(a: i32, b: i32) -> i32 { a + b }
docker run --rm -it -p 8080:80 nginx
import numpy as np; x = np.zeros((3, 4))
if (x === null) { return undefined; }
curl -s https://example.com/api | jq '.items[0]'
CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT);
.button { color: #fff; padding: 4px 8px; }
while true; do sleep 1; done
let v: Vec<u8> = Vec::new();
^[a-z0-9]+@[a-z]+\\.com$
console.log(JSON.stringify(data, null, 2));
try: f() except ValueError as e: raise
package main; import "fmt"
kubectl get pods -n default -o wide
x = [a for a in b if a % 2 == 0]
Traceback (most recent call last): File "a.py", line 3
return new Promise(resolve => setTimeout(resolve, 100));
UPDATE stock SET n = n - 1 WHERE id = 42;
int main(void) { return 0; }
awk -F, '{print $2}' data.csv | sort | uniq -c
lambda x: x * x
echo $PATH | tr ':' '\\n'
"""
_LANGUAGES = """
Le chat dort sur le canapé depuis ce matin.
Morgen fahren wir mit dem Zug nach Berlin.
Mi hermana vive en una casa cerca del mar.
Il treno per Roma parte alle otto e mezza.
O livro que comprei ontem é muito interessante.
De kinderen spelen in het park achter de school.
Jutro idziemy do kina z przyjaciółmi.
Vädret var kallt men solen sken hela dagen.
Сегодня утром я пил чай без сахара.
今日はとても寒いので家にいます。
我昨天在图书馆看了一本书。
오늘 저녁에 친구를 만나기로 했어요.
Bugün hava çok güzel, dışarı çıkalım.
ذهبت إلى السوق لشراء الخبز والجبن.
Η θάλασσα ήταν ήρεμη το πρωί.
Děti si hrají na zahradě za domem.
La voiture rouge est tombée en panne hier soir.
Die Rechnung ist bis Ende des Monats zu bezahlen.
El perro del vecino ladra todas las noches.
Ho dimenticato le chiavi in ufficio.
A reunião começa às nove da manhã.
Ik heb gisteren een nieuwe fiets gekocht.
Wczoraj padał deszcz przez cały dzień.
Min bror arbetar på ett sjukhus i Malmö.
Поезд из Москвы опоздал на два часа.
駅までの道を教えてもらいました。
他们明天早上去爬山。
어제 새 신발을 샀는데 조금 작아요.
Annem akşam yemeği için çorba pişirdi.
كان الجو حارا جدا في الصيف الماضي.
Ο αδελφός μου μένει στην Πάτρα.
Včera jsme byli na výletě v horách.
"""
_STATEMENTS = """
The meeting has been moved to Thursday at nine.
I think the soup needs a little more salt.
She closed the door and walked down to the river.
Our flight was delayed because of fog.
The company was founded in 1912 by two brothers.
Thanks a lot, that was very kind of you.
It rained all night and the cellar is full of water.
My name is Anna and I live in Ghent.
The heart pumps blood through the body.
Happy birthday to you!
There are three kinds of rock in this valley.
He was born in Turin and studied law.
I could not sleep because of the noise.
The new bridge will be opened next spring.
Good morning, everyone.
A triangle has three sides.
They lost the game by two goals.
The price of copper has risen again.
I am sorry to hear about your dog.
Water freezes at zero degrees.
The old library burned down last winter.
Nobody knows where the captain went.
We had pancakes for breakfast.
The battery lasts for about nine hours.
My brother works as a nurse in Oslo.
The river flows through four countries.
What a beautiful day it is.
His first novel was not a success.
The museum is closed on Mondays.
Bees dance to tell each other where flowers are.
The train to Lyon leaves from platform two.
I have never been to Japan.
"""
_HURRIED = """
summarize legal contracts
answer customer emails politely
translate english to german
fix spelling mistakes
write unit tests for python functions
extract dates from medical reports
classify tweets as toxic or not
turn bullet points into a paragraph
make sql queries from questions
give me the sentiment of product reviews
explain code to beginners
write headlines for news articles
pull the phone numbers out of a text
rate essays from 1 to 5
rewrite this in plain English
answer trivia questions with one word
convert json to yaml
write alt text for images from their captions
label support tickets by department
solve math word problems
generate product descriptions
find the main character of a story
describe recipes in one line
spot grammar errors
reply to reviews as the owner of the shop
turn meeting notes into action items
tell me which language a text is in
shorten long sentences
make a quiz question out of a paragraph
name the capital of a country
detect spam
write commit messages from diffs
"""
#: Kinds of texts that describe no task.
KINDS = {
    "questions": tuple(_QUESTIONS.strip().split("\n")),
    "code": tuple(_CODE.strip().split("\n")),
    "languages": tuple(_LANGUAGES.strip().split("\n")),
    "statements": tuple(_STATEMENTS.strip().split("\n")),
}
#: Descriptions of a few words.
HURRIED = tuple(_HURRIED.strip().split("\n"))
